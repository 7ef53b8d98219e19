"use strict";
const task = JSON.parse(document.getElementById("task").textContent);
const at = (id) => document.getElementById(id);
const many = task.labels.length > 9;
let who = new URLSearchParams(location.search).get("annotator") || remembered() || "";
let now = null;        // the text that is shown
let busy = false;      // a request is on its way
let shown = [];        // the labels listed, best first
let on = 0;            // the one Enter takes
let looked = 0;        // milliseconds this text was looked at, up to `since`
let since = null;      // when it was last brought to the front; null while it is hidden

function remembered() { try { return localStorage.getItem("annotator"); } catch { return ""; } }

// --- time: only while the page is in front ---------------------------------------------------------------

function restart() { looked = 0; since = document.hidden ? null : performance.now(); }
function seconds() { return (looked + (since === null ? 0 : performance.now() - since)) / 1000; }
document.addEventListener("visibilitychange", () => {
  if (document.hidden) { if (since !== null) looked += performance.now() - since; since = null; }
  else { since = performance.now(); if (who && !now) refresh(); }
});

// --- asking the server: tried again until it answers, and nothing moves on before --------------------------

async function ask(path, body) {
  busy = true;
  for (let wait = 300; ; wait = Math.min(wait * 2, 5000)) {
    try {
      const reply = body === undefined
        ? await fetch(path)
        : await fetch(path, { method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(body) });
      const text = await reply.text();
      if (reply.status >= 500) throw new Error("server");
      busy = false;
      let found = null;
      try { found = JSON.parse(text); } catch { found = { error: text }; }
      if (found.error) { trouble(found.error); return null; }
      trouble("");
      return found;
    } catch {
      trouble("The server does not answer. Nothing is lost: this is tried again until it does.");
      await new Promise((again) => setTimeout(again, wait));
    }
  }
}

function trouble(words) { at("trouble").textContent = words; at("trouble").hidden = !words; }
function say(words) { at("said").textContent = words; }

// --- what is shown ------------------------------------------------------------------------------------------

function show(state) {
  if (!state) return;
  const another = !now || !state.text || now.id !== state.text.id;
  now = state.text;
  const pace = state.seconds ? ` · ${state.seconds} s a label` : "";
  at("count").textContent = `${state.annotator} · ${state.mine} labelled, ${state.open} to go${pace}`;
  at("bar").max = Math.max(state.mine + state.open, 1);
  at("bar").value = state.mine;
  for (const id of ["text", "choice"]) at(id).hidden = !now;
  at("foot").hidden = false;
  at("end").hidden = Boolean(now);
  at("hello").hidden = true;
  at("undo").disabled = !state.last;
  at("skip").disabled = at("unsure").disabled = !now;
  if (!now) {
    const rest = state.texts - state.full;
    at("endwords").textContent = rest > 0
      ? `There is nothing left for you. ${rest} of ${state.texts} texts wait for other people.`
      : `All ${state.texts} texts are labelled; ${state.mine} of the labels are yours.`;
    return;
  }
  if (!another) return;
  at("words").replaceChildren(...now.parts.map((part) => {
    const p = document.createElement("p");
    p.dir = "auto";
    p.textContent = part;
    return p;
  }));
  at("words").scrollTop = 0;
  at("search").value = "";
  if (document.activeElement === at("search")) at("search").blur();
  list();
  restart();
}

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
  if (words.every((word) => `${name} ${label.about.toLowerCase()}`.includes(word))) return 2;
  return 0;
}

function list() {
  const query = at("search").value.trim().toLowerCase().replace(/[_-]+/g, " ");
  shown = task.labels
    .map((label, place) => ({ label, place, rank: rank(label, query) }))
    .filter((each) => each.rank > 0)
    .sort((a, b) => b.rank - a.rank || a.place - b.place)
    .map((each) => each.label);
  on = 0;
  at("labels").replaceChildren(...shown.map((label, place) => {
    const item = document.createElement("li");
    const button = document.createElement("button");
    const key = document.createElement("kbd");
    key.textContent = place < 9 ? String(place + 1) : "";
    const name = document.createElement("span");
    name.textContent = label.name;
    button.append(key, name);
    if (label.about) {
      const about = document.createElement("small");
      about.textContent = label.about;
      button.append(about);
    }
    button.type = "button";
    button.tabIndex = -1;
    button.addEventListener("click", () => choose(label));
    item.append(button);
    return item;
  }));
  at("labels").scrollTop = 0;
  light();
}

function searching() { return document.activeElement === at("search") || at("search").value !== ""; }

function light() {
  [...at("labels").children].forEach((item, place) => item.classList.toggle("on", searching() && place === on));
  at("labels").children[on]?.scrollIntoView({ block: "nearest" });
}

// --- what a person does ---------------------------------------------------------------------------------------

const became = {
  changed: "It had another label of yours, perhaps from another tab: this one counts.",
  surplus: "Somebody else has just labelled it: yours is not needed.",
  taken: "The run has taken this text's labels already.",
  unknown: "The run asks about this text no more.",
};

async function choose(label) {
  if (busy || !now) return;
  const took = Math.max(Math.round(seconds() * 100), 1) / 100;  // 0 would say that nobody looked at a clock
  const name = label ? label.name : null;
  const found = await ask("label", { annotator: who, id: now.id, label: name, seconds: took });
  if (!found) return;
  say(became[found.outcome] || (name === null ? "Unsure." : `${name}, ${took.toFixed(1)} s.`));
  show(found);
}

async function skip() {
  if (busy || !now) return;
  const found = await ask("skip", { annotator: who, id: now.id });
  if (found) { say("Skipped: it comes again at the end."); show(found); }
}

async function undo() {
  if (busy) return;
  const found = await ask("undo", { annotator: who });
  if (!found) return;
  say(found.undone === null ? "There is nothing to take back." : `Took back ${found.undone || "unsure"}.`);
  show(found);
}

async function refresh() {
  if (busy || !who) return;
  show(await ask(`state?annotator=${encodeURIComponent(who)}`));
}

// --- keys --------------------------------------------------------------------------------------------------------

function picks(key) {
  // A digit chooses, unless it goes on spelling a label's name.
  if (!/^[1-9]$/.test(key) || Number(key) > shown.length) return false;
  const typed = at("search").value.trim().toLowerCase();
  return !typed || !task.labels.some((label) => label.name.toLowerCase().includes(typed + key));
}

document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || !at("hello").hidden) return;
  const key = event.key;
  const inside = document.activeElement === at("search");
  const act = (what) => { event.preventDefault(); what(); };
  if (!now) { if (key === "u") act(undo); return; }
  if (picks(key)) return act(() => choose(shown[Number(key) - 1]));
  if (key === "Enter" && searching()) return act(() => shown[on] && choose(shown[on]));
  if (key === "ArrowDown" || key === "ArrowUp") {
    if (!searching()) at("search").focus();
    return act(() => { on = Math.max(0, Math.min(shown.length - 1, on + (key === "ArrowDown" ? 1 : -1))); light(); });
  }
  if (key === "Escape") return act(() => { at("search").value = ""; at("search").blur(); list(); });
  if (inside) return;
  if (key === "u") return act(undo);
  if (key === "s") return act(skip);
  if (key === "?") return act(() => choose(null));
  if (key === "/") return act(() => at("search").focus());
  if (key.length === 1 && /\p{L}/u.test(key)) at("search").focus();  // the letter itself lands in it
});

at("search").addEventListener("input", list);
at("search").addEventListener("focus", light);
at("search").addEventListener("blur", light);
at("unsure").addEventListener("click", () => choose(null));
at("skip").addEventListener("click", skip);
at("undo").addEventListener("click", undo);
at("name").addEventListener("submit", (event) => {
  event.preventDefault();
  who = at("who").value.trim().replace(/\s+/g, " ");
  if (!who) return;
  try { localStorage.setItem("annotator", who); } catch { /* a private window */ }
  history.replaceState(null, "", `?annotator=${encodeURIComponent(who)}`);
  refresh();
});

at("search").placeholder = many ? `Type to search ${task.labels.length} labels` : "Type to search, or press a number";
at("instruction").textContent = task.instruction;
at("guide").hidden = !task.instruction;
at("guide").open = matchMedia("(min-width: 46.01rem)").matches;
setInterval(() => { if (who && !now && !document.hidden && at("hello").hidden) refresh(); }, 4000);
if (who) refresh(); else { at("hello").hidden = false; at("who").focus(); }
