"use strict";
const byId = (id) => document.getElementById(id);
const MOST_SCORES = 12;
const keyAsked = Boolean(document.body.dataset.key);
let key = stored();
let models = [];

function stored() { try { return sessionStorage.getItem("potstill-key") || ""; } catch { return ""; } }
function store(value) { try { sessionStorage.setItem("potstill-key", value); } catch { /* for this page alone, then */ } }

function element(name, text, className) {
  const made = document.createElement(name);
  made.textContent = text;
  if (className) made.className = className;
  return made;
}

function showError(message) { byId("error").textContent = message; byId("error").hidden = !message; }

async function request(path, body) {
  const headers = {};
  if (key) headers.Authorization = `Bearer ${key}`;
  if (body) headers["Content-Type"] = "application/json";
  let response;
  try {
    response = await fetch(path, { method: body ? "POST" : "GET", headers, body: body && JSON.stringify(body) });
  } catch {
    throw new Error("The server does not answer.");
  }
  if (response.status === 401) { askForKey(); throw new Error(key ? "This is not a key of the server." : ""); }
  const reply = await response.json().catch(() => ({ error: `The server answered with status ${response.status}.` }));
  if (reply.error) throw new Error([reply.error, reply.hint].filter(Boolean).join(" "));
  return reply;
}

function askForKey() { byId("login").hidden = false; byId("ask").hidden = true; byId("latest").hidden = true; byId("key").focus(); }

async function open() {
  showError("");
  if (keyAsked && !key) { askForKey(); return; }
  try {
    models = (await request("models")).models;
    byId("login").hidden = true;
    byId("ask").hidden = false;
    byId("model").replaceChildren(...models.map((model) => element("option", model.name)));
    byId("models").hidden = models.length < 2;
    choose();
    await showRecent();
  } catch (failure) { showError(failure.message); }
}

function chosen() { return models[byId("model").selectedIndex] || models[0]; }

function choose() {
  const model = chosen();
  if (!model) { showError("The models are being loaded. Load the page again."); return; }
  const several = model.several_labels ? ", several for a text" : "";
  byId("title").textContent = model.name;
  const gives = model.form === "free" ? "answers in words" : `${model.labels.length} ${model.entities ? "types" : "labels"}`;
  byId("about").textContent = `${gives}${several} · version ${model.version} · ${model.size_mb} MB`;
  byId("pair").hidden = !model.takes_pairs;
  byId("first-name").textContent = model.takes_pairs ? "First text" : "Text";
  byId("answer").hidden = true;
}

function notesOf(found) {
  const notes = [];
  if (found.confident === true) notes.push(element("span", "confident", "note good"));
  if (found.confident === false) notes.push(element("span", "not confident", "note warn"));
  if (found.in_scope === true) notes.push(element("span", "in scope", "note good"));
  if (found.in_scope === false) notes.push(element("span", "unlike the texts it was checked on", "note warn"));
  return notes;
}

function scoreRow(name, probability) {
  const row = element("li", "", "score");
  const bar = document.createElement("meter");
  bar.value = probability;
  bar.setAttribute("aria-label", `${name}: ${percent(probability)}`);
  row.append(element("span", name), element("span", percent(probability)), bar);
  return row;
}

function showEntities(found, milliseconds) {
  byId("given").textContent = found.entities.length ? "" : "no entity";
  byId("notes").replaceChildren();
  byId("scores").replaceChildren(...found.entities.map((each) => scoreRow(`${each.text} · ${each.type}`, each.confidence)));
  byId("time").textContent = `${milliseconds.toFixed(0)} ms`;
  byId("answer").hidden = false;
}

function showAnswer(found, milliseconds) {
  byId("given").textContent = found.answer || "an empty answer";
  byId("notes").replaceChildren(...(found.complete ? [] : [element("span", "cut at the limit of tokens", "note warn")]));
  byId("scores").replaceChildren(scoreRow("confidence", found.confidence));
  byId("time").textContent = `${milliseconds.toFixed(0)} ms`;
  byId("answer").hidden = false;
}

function percent(value) { return `${(100 * value).toFixed(1)} %`; }

function show(found, milliseconds) {
  byId("given").textContent = found.labels.join(", ") || "no label";
  byId("notes").replaceChildren(...notesOf(found));
  const ranked = Object.entries(found.probabilities).sort((a, b) => b[1] - a[1]);
  byId("scores").replaceChildren(...ranked.slice(0, MOST_SCORES).map(([label, probability]) => scoreRow(label, probability)));
  const more = ranked.length - MOST_SCORES;
  byId("time").textContent = `${more > 0 ? `and ${more} more labels · ` : ""}${milliseconds.toFixed(0)} ms`;
  byId("answer").hidden = false;
}

async function showRecent() {
  const recent = await request("recent");
  byId("latest").hidden = !recent.texts.length;
  byId("recent").replaceChildren(...recent.texts.map((each) => {
    const row = document.createElement("li");
    const text = element("p", [].concat(each.text).join(" | "));
    text.dir = "auto";
    row.append(text, element("span", `${each.labels.join(", ") || "no label"} · ${percent(each.probability)}`, "soft"));
    return row;
  }));
}

byId("login").addEventListener("submit", (event) => {
  event.preventDefault();
  key = byId("key").value.trim();
  store(key);
  open();
});
byId("model").addEventListener("change", choose);
byId("ask").addEventListener("submit", async (event) => {
  event.preventDefault();
  const model = chosen();
  const first = byId("first").value;
  byId("send").disabled = true;
  showError("");
  try {
    const started = performance.now();
    const texts = [model.takes_pairs ? [first, byId("second").value] : first];
    const reply = await request("label", { model: model.name, texts });
    ({ entities: showEntities, free: showAnswer }[model.form] || show)(reply.texts[0], performance.now() - started);
    await showRecent();
  } catch (failure) { showError(failure.message); }
  byId("send").disabled = false;
});
byId("first").addEventListener("keydown", (event) => {
  if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) byId("ask").requestSubmit();
});
open();
