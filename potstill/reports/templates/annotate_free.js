// --- an answer in words: a text area; Ctrl+Enter stores what is in it ---------------------------------------------

pane = (() => {
  const area = byId("answer");
  const drafts = new Map();  // text id -> what was written and not stored
  byId("search").hidden = byId("labels").hidden = true;
  area.addEventListener("input", () => { if (current) drafts.set(current.id, area.value); });

  function store_() {
    const answer = area.value.trim();
    if (!answer) { showStatus("Write an answer first, or press Unsure."); area.focus(); return; }
    store(answer, answer.length > 40 ? `${answer.slice(0, 40)}…` : answer);
  }

  byId("store").addEventListener("click", store_);
  return {
    show(undone) {
      area.value = undone || drafts.get(current.id) || "";
      if (matchMedia("(pointer: fine)").matches) area.focus();  // on a phone the keyboard would cover the text
    },
    forget() { if (current) drafts.delete(current.id); },
    choose() {},
    listed() {},
    key(event) {  // true if the key is not to be looked at any more
      if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) { event.preventDefault(); store_(); return true; }
      if (document.activeElement === area) { if (event.key === "Escape") area.blur(); return true; }
      if (event.ctrlKey || event.metaKey || event.altKey) return true;
      if (["u", "s", "?"].includes(event.key) || event.key === "Tab") return false;
      if (event.key.length === 1) area.focus();  // the browser then types the letter into it
      return true;
    },
  };
})();
