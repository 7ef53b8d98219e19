"use strict";
const task = JSON.parse(document.getElementById("task").textContent);
const byId = (id) => document.getElementById(id);
const manyLabels = task.labels.length > 9;
let annotator = new URLSearchParams(location.search).get("annotator") || storedName() || "";
let current = null;         // the text that is shown
let last = null;            // the newest label, which undo takes back
let pending = false;        // a request is under way
let listed = [];            // the labels listed, best match first
let selected = 0;           // the index that Enter chooses
let pane = null;            // how answers of the task's form are given; null for labels
const done = { entities: "marked", free: "answered" }[task.form] || "labelled";
let viewedMs = 0;           // how long this text was visible, up to `visibleSince`
let visibleSince = null;    // when it last became visible; null while the page is hidden

function storedName() { try { return localStorage.getItem("annotator"); } catch { return ""; } }

// --- time: counts only while the page is visible ------------------------------------------------------------

function restartClock() { viewedMs = 0; visibleSince = document.hidden ? null : performance.now(); }
function elapsedSeconds() { return (viewedMs + (visibleSince === null ? 0 : performance.now() - visibleSince)) / 1000; }
document.addEventListener("visibilitychange", () => {
  if (document.hidden) { if (visibleSince !== null) viewedMs += performance.now() - visibleSince; visibleSince = null; }
  else { visibleSince = performance.now(); if (annotator && !current) refresh(); }
});

// --- requests: repeated until the server answers; the page changes only after the answer --------------------

async function request(path, body) {
  pending = true;
  for (let wait = 300; ; wait = Math.min(wait * 2, 5000)) {
    try {
      const headers = { "Content-Type": "application/json" };
      const response = await fetch(path, { method: "POST", headers, body: JSON.stringify(body) });
      const text = await response.text();
      let reply = null;
      try { reply = JSON.parse(text); } catch { reply = { error: text }; }
      if (response.status >= 500) throw new Error(reply.error);
      pending = false;
      if (reply.error) { showError(reply.error); return null; }
      showError("");
      return reply;
    } catch (failure) {
      const reason = failure instanceof TypeError ? "The server does not answer." : failure.message;  // TypeError: fetch's
      showError(`${reason} Nothing is lost: this is tried again until it works.`);
      await new Promise((resolve) => setTimeout(resolve, wait));
    }
  }
}

function showError(message) { byId("error").textContent = message; byId("error").hidden = !message; }
function showStatus(message) { byId("status").textContent = message; }

// --- what is shown ------------------------------------------------------------------------------------------

function show(state, undone = null) {
  if (!state) return;
  const changed = !current || !state.text || current.id !== state.text.id;
  current = state.text;
  last = state.last;
  const pace = state.median_seconds ? ` · ${state.median_seconds} s a ${pane ? "text" : "label"}` : "";
  byId("count").textContent = `${state.annotator} · ${state.n_labelled} ${done}, ${state.n_remaining} to go${pace}`;
  byId("bar").max = Math.max(state.n_labelled + state.n_remaining, 1);
  byId("bar").value = state.n_labelled;
  for (const id of ["text", "choice"]) byId(id).hidden = !current;
  byId("actions").hidden = false;
  byId("end").hidden = Boolean(current);
  byId("start").hidden = true;
  byId("undo").disabled = !state.last;
  byId("skip").disabled = byId("unsure").disabled = !current;
  if (pane) byId("store").disabled = !current;
  if (!current) {
    const rest = state.n_texts - state.n_complete;
    byId("summary").textContent = rest > 0
      ? `There is nothing left for you. ${rest} of ${state.n_texts} texts wait for other people.`
      : `All ${state.n_texts} texts are ${done}; ${state.n_labelled} of the ${pane ? "answers" : "labels"} are yours.`;
    return;
  }
  if (!changed) return;
  byId("passage").replaceChildren(...current.parts.map((part) => {
    const p = document.createElement("p");
    p.dir = "auto";
    p.textContent = part;
    return p;
  }));
  byId("passage").scrollTop = 0;
  byId("search").value = "";
  if (document.activeElement === byId("search")) byId("search").blur();
  listLabels();
  if (pane) pane.show(undone);
  restartClock();
}

// How well a label matches the query: 0 not at all; the beginning of the name best, the description least.
function rank(label, query) {
  const name = label.name.toLowerCase().replace(/[_-]+/g, " ");
  if (!query) return 1;
  if (name.startsWith(query)) return 6;
  if (name.split(/\s+/).some((word) => word.startsWith(query))) return 5;
  if (name.includes(query)) return 4;
  const words = query.split(/\s+/);
  const parts = name.split(/\s+/);
  let next = 0;  // "car ar" means "card arrival": beginnings of words, in order
  for (const part of parts) if (next < words.length && part.startsWith(words[next])) next += 1;
  if (next === words.length) return parts[0].startsWith(words[0]) ? 3.8 : 3.5;
  if (words.every((word) => name.includes(word))) return 3;
  if (words.every((word) => `${name} ${label.description.toLowerCase()}`.includes(word))) return 2;
  return 0;
}

function listLabels() {
  const query = byId("search").value.trim().toLowerCase().replace(/[_-]+/g, " ");
  listed = task.labels
    .map((label, index) => ({ label, index, rank: rank(label, query) }))
    .filter((match) => match.rank > 0)
    .sort((a, b) => b.rank - a.rank || a.index - b.index)
    .map((match) => match.label);
  selected = 0;
  byId("labels").replaceChildren(...listed.map((label, index) => {
    const item = document.createElement("li");
    const button = document.createElement("button");
    const key = document.createElement("kbd");
    key.textContent = index < 9 ? String(index + 1) : "";
    const name = document.createElement("span");
    name.textContent = label.name;
    button.append(key, name);
    if (label.description) {
      const description = document.createElement("small");
      description.textContent = label.description;
      button.append(description);
    }
    button.type = "button";
    button.tabIndex = -1;
    button.addEventListener("click", () => choose(label));
    item.append(button);
    return item;
  }));
  byId("labels").scrollTop = 0;
  if (pane) pane.listed();
  highlight();
}

function searching() { return document.activeElement === byId("search") || byId("search").value !== ""; }

function highlight() {
  [...byId("labels").children].forEach((item, index) => item.classList.toggle("selected", searching() && index === selected));
  byId("labels").children[selected]?.scrollIntoView({ block: "nearest" });
}

// --- what an annotator does -----------------------------------------------------------------------------------

const outcomes = {
  changed: "It had another label of yours, perhaps from another tab: this one counts.",
  surplus: `Another annotator has just ${done} it: yours is not needed.`,
  collected: "The run has used this text's labels already.",
  unknown: "The run no longer asks about this text.",
};

function choose(label) {
  if (label && pane) return pane.choose(label);
  return store(label ? label.name : null, label ? label.name : "");
}

// Store a label or an answer, null for unsure; `words` say it in the status line.
async function store(answer, words) {
  if (pending || !current) return;
  const took = Math.max(Math.round(elapsedSeconds() * 100), 1) / 100;  // 0 would mean "not measured"
  const reply = await request("label", { annotator, id: current.id, label: answer, seconds: took });
  if (!reply) return;
  if (pane) pane.forget();
  showStatus(outcomes[reply.outcome] || (answer === null ? "Unsure." : `${words}, ${took.toFixed(1)} s.`));
  show(reply);
}

async function skip() {
  if (pending || !current) return;
  const reply = await request("skip", { annotator, id: current.id });
  if (reply) { showStatus("Skipped: it comes again at the end."); show(reply); }
}

async function undo() {
  if (pending) return;
  if (!last) { showStatus("There is nothing to undo."); return; }
  const reply = await request("undo", { annotator, id: last.id });
  if (!reply) return;
  showStatus(reply.undone === null ? "There is nothing to undo." : `Undone: ${reply.undone ? (pane ? "correct it, and store it again" : reply.undone) : "unsure"}.`);
  show(reply, reply.undone);
}

async function refresh() {
  if (pending || !annotator) return;
  show(await request("next", { annotator }));
}

// --- keys --------------------------------------------------------------------------------------------------------

// A digit chooses a label, unless it continues a label's name that is being typed.
function choosesByDigit(key) {
  if (!/^[1-9]$/.test(key) || Number(key) > listed.length) return false;
  const typed = byId("search").value.trim().toLowerCase();
  return !typed || !task.labels.some((label) => label.name.toLowerCase().includes(typed + key));
}

document.addEventListener("keydown", (event) => {
  if (pane && current && byId("start").hidden && pane.key(event)) return;
  if (event.ctrlKey || event.metaKey || event.altKey || !byId("start").hidden) return;
  const key = event.key;
  const inSearch = document.activeElement === byId("search");
  const act = (action) => { event.preventDefault(); action(); };
  if (!current) { if (key === "u") act(undo); return; }
  if (choosesByDigit(key)) return act(() => choose(listed[Number(key) - 1]));
  if (key === "Enter" && searching()) return act(() => listed[selected] && choose(listed[selected]));
  if (key === "ArrowDown" || key === "ArrowUp") {
    if (!searching()) byId("search").focus();
    const step = key === "ArrowDown" ? 1 : -1;
    return act(() => { selected = Math.max(0, Math.min(listed.length - 1, selected + step)); highlight(); });
  }
  if (key === "Escape") return act(() => { byId("search").value = ""; byId("search").blur(); listLabels(); });
  if (inSearch) return;
  if (key === "u") return act(undo);
  if (key === "s") return act(skip);
  if (key === "?") return act(() => choose(null));
  if (key === "/") return act(() => byId("search").focus());
  if (key.length === 1 && /\p{L}/u.test(key)) byId("search").focus();  // the browser then types the letter into it
});

byId("search").addEventListener("input", listLabels);
byId("search").addEventListener("focus", highlight);
byId("search").addEventListener("blur", highlight);
byId("unsure").addEventListener("click", () => choose(null));
byId("skip").addEventListener("click", skip);
byId("undo").addEventListener("click", undo);
byId("name-form").addEventListener("submit", (event) => {
  event.preventDefault();
  annotator = byId("name").value.trim().replace(/\s+/g, " ");
  if (!annotator) return;
  try { localStorage.setItem("annotator", annotator); } catch { /* a private window */ }
  history.replaceState(null, "", `?annotator=${encodeURIComponent(annotator)}`);
  refresh();
});

byId("search").placeholder = manyLabels ? `Type to search ${task.labels.length} labels` : "Type to search, or press a number";
byId("instruction").textContent = task.instruction;
byId("guideline").hidden = !task.instruction;
byId("guideline").open = matchMedia("(min-width: 46.01rem)").matches;
setInterval(() => { if (annotator && !current && !document.hidden && byId("start").hidden) refresh(); }, 4000);
if (annotator) refresh(); else { byId("start").hidden = false; byId("name").focus(); }
