// --- marks on the text: select words and choose a type; places are UTF-16 units here and characters on the server ---

pane = (() => {
  const drafts = new Map();  // text id -> marks that were not stored
  let marks = [];            // {start, end, type}, sorted, without overlaps
  let picked = null;         // {start, end} of the words that were selected
  let cursor = 0;            // where the keyboard goes on: the end of the last mark
  const text = () => current.parts[0];
  const characters = (place) => [...text().slice(0, place)].length;
  const units = (place) => [...text()].slice(0, place).join("").length;
  const hue = (type) => `h${task.labels.findIndex((label) => label.name === type) % 8}`;
  const paragraph = () => byId("passage").firstElementChild;

  function draw() {
    const parts = [];
    let at = 0;
    for (const mark of marks) {
      parts.push(document.createTextNode(text().slice(at, mark.start)));
      const node = document.createElement("mark");
      node.textContent = text().slice(mark.start, mark.end);
      node.className = hue(mark.type);
      node.dataset.type = mark.type;
      node.tabIndex = 0;
      node.setAttribute("role", "button");
      node.setAttribute("aria-label", `${node.textContent}, ${mark.type}: remove this mark`);
      node.title = "Remove this mark";
      node.addEventListener("click", () => { if (getSelection().isCollapsed) remove(mark); });
      parts.push(node);
      at = mark.end;
    }
    paragraph().replaceChildren(...parts, document.createTextNode(text().slice(at)));
    const n = marks.length;
    const key = document.createElement("kbd");
    key.textContent = "Enter";
    byId("store").replaceChildren(n ? `Store ${n} mark${n > 1 ? "s" : ""} ` : "Nothing in it ", key);
    drafts.set(current.id, marks);
    highlightPicked();
  }

  function listHues() {
    for (const item of byId("labels").children) {
      const name = item.querySelector("span");
      if (!name.classList.contains("hue")) name.classList.add("hue", hue(name.textContent));
    }
  }

  function remove(mark) {
    marks = marks.filter((other) => other !== mark);
    showStatus(`Removed: ${text().slice(mark.start, mark.end)}.`);
    draw();
  }

  // --- the selection: from a mouse or a finger, or word by word from the keyboard --------------------------------

  function offset(node, within) {
    const range = document.createRange();
    range.selectNodeContents(paragraph());
    range.setEnd(node, within);
    return range.toString().length;
  }

  function range(start, end) {  // of the DOM, for places in the text
    const found = document.createRange();
    const walker = document.createTreeWalker(paragraph(), NodeFilter.SHOW_TEXT);
    let at = 0;
    for (let node = walker.nextNode(); node; node = walker.nextNode()) {
      const next = at + node.data.length;
      if (start >= at && start < next) found.setStart(node, start - at);
      if (end > at && end <= next) { found.setEnd(node, end - at); break; }
      at = next;
    }
    return found;
  }

  function trimmed(start, end) {
    const words = text().slice(start, end);
    const inner = words.trim();
    return inner ? { start: start + words.length - words.trimStart().length, end: end - words.length + words.trimEnd().length } : null;
  }

  function highlightPicked() {  // also while the search has the focus
    if (!window.CSS || !CSS.highlights || !window.Highlight) return;
    CSS.highlights.delete("picked");
    if (picked) CSS.highlights.set("picked", new Highlight(range(picked.start, picked.end)));
  }

  document.addEventListener("selectionchange", () => {
    const selection = getSelection();
    if (!current || !selection.rangeCount || !paragraph()) return;
    const own = selection.getRangeAt(0);
    if (!paragraph().contains(own.startContainer) || !paragraph().contains(own.endContainer)) return;
    picked = own.collapsed ? null : trimmed(offset(own.startContainer, own.startOffset), offset(own.endContainer, own.endOffset));
    highlightPicked();
  });

  // Runs of letters and digits are words, and every other mark is one by itself, as for the student.
  const words = () => [...text().matchAll(/[\p{L}\p{M}\p{N}]+|[^\s\p{L}\p{M}\p{N}]/gu)].map((found) => ({ start: found.index, end: found.index + found[0].length }));

  function pick(step, extend) {
    const all = words();
    if (!all.length) return;
    const before = all.filter((word) => word.end <= cursor).length;  // words left of the cursor
    const first = picked ? all.findIndex((word) => word.end > picked.start) : step > 0 ? before - 1 : before;
    const last = picked ? all.findLastIndex((word) => word.start < picked.end) : first;
    const moved = Math.max(0, Math.min(all.length - 1, (extend || step > 0 ? last : first) + step));
    const from = extend && picked ? Math.min(first, moved) : moved;
    const to = extend && picked ? Math.max(first, moved) : moved;
    const place = { start: all[from].start, end: all[to].end };
    const dom = range(place.start, place.end);
    getSelection().setBaseAndExtent(dom.startContainer, dom.startOffset, dom.endContainer, dom.endOffset);
    picked = place;
    highlightPicked();
    dom.startContainer.parentElement.scrollIntoView({ block: "nearest" });
  }

  // --- what an annotator does -----------------------------------------------------------------------------------

  function choose_(label) {
    if (pending || !current) return;
    if (!picked) { showStatus("Select words of the text first."); return; }
    const { start, end } = picked;
    marks = [...marks.filter((other) => other.end <= start || other.start >= end), { start, end, type: label.name }];
    marks.sort((a, b) => a.start - b.start);
    showStatus(`${text().slice(start, end)}: ${label.name}.`);
    picked = null;
    cursor = end;
    getSelection().removeAllRanges();
    byId("search").value = "";
    if (document.activeElement === byId("search")) byId("search").blur();
    listLabels();
    draw();
  }

  function store_() {
    const own = marks.map((mark) => [characters(mark.start), characters(mark.end), mark.type]);
    store(JSON.stringify(own), own.length ? `${own.length} mark${own.length > 1 ? "s" : ""}` : "Nothing in it");
  }

  // A finger or a click on a type must not take the selection away before it is used.
  byId("labels").addEventListener("pointerdown", (event) => event.preventDefault());
  byId("search").placeholder = manyLabels ? `Type to search ${task.labels.length} types` : matchMedia("(pointer: fine)").matches ? "Select words, then press a number" : "Select words, then touch a type";
  byId("search").setAttribute("aria-label", "Search types");

  byId("store").addEventListener("click", store_);
  return {
    show(undone) {
      picked = null;
      cursor = 0;
      const given = undone ? JSON.parse(undone).map(([start, end, type]) => ({ start: units(start), end: units(end), type })) : null;
      marks = given || drafts.get(current.id) || [];
      draw();
    },
    forget() { if (current) drafts.delete(current.id); },
    choose: choose_,
    listed: listHues,
    key(event) {  // true if the key is not to be looked at any more
      if (event.ctrlKey || event.metaKey || event.altKey) return true;
      const mark = document.activeElement.closest?.("mark");
      const act = (action) => { event.preventDefault(); action(); return true; };
      const inSearch = document.activeElement === byId("search");
      if (mark && ["Enter", " ", "Delete", "Backspace"].includes(event.key)) {
        return act(() => remove(marks[[...paragraph().querySelectorAll("mark")].indexOf(mark)]));
      }
      if (inSearch || event.target.closest?.("button")) return false;
      if (event.key === "ArrowRight" || event.key === "ArrowLeft") {
        return act(() => pick(event.key === "ArrowRight" ? 1 : -1, event.shiftKey));
      }
      if (event.key === "Enter" && !byId("search").value) return act(store_);
      if (event.key === "Backspace" && marks.length) return act(() => remove(marks[marks.length - 1]));
      if (event.key === "Escape" && picked) return act(() => { picked = null; getSelection().removeAllRanges(); highlightPicked(); });
      return false;
    },
  };
})();
