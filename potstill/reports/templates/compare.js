// Draws the charts of compare.html from the figures in the page. No library; nothing is fetched.
(() => {
  "use strict";
  const sections = JSON.parse(document.getElementById("figures").textContent);
  for (const section of sections) section.points = section.points.map(p => ({ ...p, ...p.cost, ...p.footprint }));
  const NS = "http://www.w3.org/2000/svg";
  const DASHES = { "ft": "", "p": "7 4", "ft+kd": "2 3", "p+kd": "9 3 2 3", "llm+kd": "1 4" };
  const MARKS = ["circle", "square", "triangle", "diamond", "cross", "down", "plus", "star"];
  const BASELINES = ["majority", "tf-idf", "zero-encoder", "zero-llm", "few-llm", "known-words", "frequent-answer", "text-itself"];

  const make = (name, attributes, parent, text) => {
    const node = document.createElementNS(NS, name);
    for (const key in attributes) node.setAttribute(key, attributes[key]);
    if (text !== undefined) node.textContent = text;
    if (parent) parent.appendChild(node);
    return node;
  };
  const PATHS = {
    circle: r => `M${-r} 0a${r} ${r} 0 1 0 ${2 * r} 0a${r} ${r} 0 1 0 ${-2 * r} 0`,
    square: r => `M${-r} ${-r}h${2 * r}v${2 * r}h${-2 * r}z`,
    triangle: r => `M0 ${-1.2 * r}L${1.15 * r} ${0.85 * r}H${-1.15 * r}z`,
    down: r => `M0 ${1.2 * r}L${1.15 * r} ${-0.85 * r}H${-1.15 * r}z`,
    diamond: r => `M0 ${-1.3 * r}L${1.3 * r} 0L0 ${1.3 * r}L${-1.3 * r} 0z`,
    cross: r => `M${-r} ${-r}L${r} ${r}M${r} ${-r}L${-r} ${r}`,
    plus: r => `M${-1.2 * r} 0H${1.2 * r}M0 ${-1.2 * r}V${1.2 * r}`,
    star: r => `M${-r} ${-r}L${r} ${r}M${r} ${-r}L${-r} ${r}M${-1.2 * r} 0H${1.2 * r}M0 ${-1.2 * r}V${1.2 * r}`,
  };
  const mark = (parent, series, x, y, r) => make("path", {
    d: PATHS[series.mark](r), transform: `translate(${x} ${y})`,
    style: `fill:${["cross", "plus", "star"].includes(series.mark) ? "none" : series.hollow ? "var(--paper)" : series.colour};stroke:${series.colour};stroke-width:2`,
  }, parent);

  const short = value => {
    const size = [[1e12, "T"], [1e9, "G"], [1e6, "M"], [1e3, "k"]].find(([s]) => value >= s);
    if (size) return `${+(value / size[0]).toPrecision(3)} ${size[1]}`;
    return String(+value.toPrecision(2));
  };
  const said = {
    p50_ms: v => `${+v.toPrecision(3)} ms`, total_usd: v => `$${v < 0.1 ? v.toPrecision(2) : v.toFixed(2)}`,
    flops: v => `${short(v)} FLOPs`, parameters: v => `${short(v)} parameters`, size_mb: v => `${+v.toPrecision(3)} MB`,
  };
  const percent = v => `${(100 * v).toFixed(1)} %`;

  const frame = (box, label, ticksX, places) => {
    box.replaceChildren();
    const width = Math.max(280, box.clientWidth || 480), height = Math.min(340, Math.max(250, width * 0.62));
    const svg = make("svg", { viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": label }, box);
    const inner = { left: 40, right: width - 10, top: 10, bottom: height - 42 };
    const x = v => inner.left + (inner.right - inner.left) * places.x(v);
    const y = v => inner.bottom - (inner.bottom - inner.top) * places.y(v);
    for (const v of places.ticksY) {
      make("line", { x1: inner.left, x2: inner.right, y1: y(v), y2: y(v), style: "stroke:var(--track)" }, svg);
      make("text", { x: inner.left - 6, y: y(v) + 4, "text-anchor": "end" }, svg, Math.round(100 * v));
    }
    let last = -1e9;
    for (const [v, name] of ticksX) {
      if (x(v) - last < 8 + 7 * name.length) continue;
      last = x(v);
      make("line", { x1: x(v), x2: x(v), y1: inner.bottom, y2: inner.bottom + 4, style: "stroke:var(--soft)" }, svg);
      make("text", { x: x(v), y: inner.bottom + 18, "text-anchor": "middle" }, svg, name);
    }
    make("text", { x: (inner.left + inner.right) / 2, y: height - 6, "text-anchor": "middle" }, svg, label.split("; ")[1]);
    return { svg, x, y, inner, width };
  };
  const scaleY = values => {
    let low = Math.min(...values), high = Math.max(...values);
    const step = [0.01, 0.02, 0.05, 0.1, 0.2].find(s => (high - low) / s <= 6) || 0.25;
    low = Math.max(Math.floor(low / step) * step, -1); high = Math.min(Math.ceil(high / step) * step, 1);
    if (high <= low) high = low + step;
    const ticksY = [];
    for (let v = low; v <= high + 1e-9; v += step) ticksY.push(v);
    return { y: v => (v - low) / (high - low), ticksY };
  };
  const log = (low, high) => {
    if (high <= low) { low /= 2; high *= 2; }
    const pad = (Math.log(high) - Math.log(low)) * 0.05, a = Math.log(low) - pad, b = Math.log(high) + pad;
    return v => (Math.log(v) - a) / (b - a);
  };
  const tip = (box, node, lines) => {
    const show = event => {
      hide();
      const card = document.createElement("div");
      card.className = "tip";
      lines.forEach((line, i) => { const p = document.createElement(i ? "div" : "b"); p.textContent = line; card.appendChild(p); });
      box.appendChild(card);
      const at = box.getBoundingClientRect(), own = node.getBoundingClientRect();
      card.style.left = `${Math.max(0, Math.min(own.left - at.left + 14, at.width - card.offsetWidth))}px`;
      card.style.top = `${own.top - at.top + 16}px`;
    };
    const hide = () => box.querySelectorAll(".tip").forEach(each => each.remove());
    node.setAttribute("tabindex", "0");
    node.setAttribute("role", "img");
    node.setAttribute("aria-label", lines.join(", "));
    for (const event of ["pointerenter", "focus"]) node.addEventListener(event, show);
    for (const event of ["pointerleave", "blur"]) node.addEventListener(event, hide);
  };
  const tellOf = (series, point) => [
    series.title, `${percent(point.value)} (${(100 * point.low).toFixed(1)} to ${(100 * point.high).toFixed(1)}), ${point.seeds} seed${point.seeds > 1 ? "s" : ""}`,
    point.n ? `${point.n.toLocaleString("en")} labels` : "no labels", `${said.total_usd(point.total_usd)} in all`,
    ...(point.p50_ms === null ? [] : [`${said.p50_ms(point.p50_ms)} a text`]),
  ];

  const curves = (box, all, section) => {
    const shown = all.filter(series => series.on && series.points.length);
    const sizes = [...new Set(all.flatMap(series => series.points.map(p => p.n)).filter(n => n))].sort((a, b) => a - b);
    if (!sizes.length || !shown.length) { box.textContent = "Nothing to show."; return; }
    const values = shown.flatMap(series => series.points.flatMap(p => [p.low, p.high]));
    const places = { x: log(sizes[0], sizes[sizes.length - 1]), ...scaleY(values) };
    const { svg, x, y, inner } = frame(box, `${section.metric} by gold labels; gold labels in all`, sizes.map(n => [n, n.toLocaleString("en")]), places);
    for (const series of shown) {
      const flat = series.points.length === 1 && series.points[0].n === 0;
      const points = flat ? [] : series.points.filter(p => p.n).sort((a, b) => a.n - b.n);
      const pen = `fill:none;stroke:${series.colour};stroke-width:${series.base ? 1.5 : 2.2};stroke-dasharray:${series.dash};stroke-linejoin:round`;
      if (flat) {
        const p = series.points[0];
        make("line", { x1: inner.left, x2: inner.right, y1: y(p.value), y2: y(p.value), style: pen }, svg);
        tip(box, mark(svg, series, inner.right - 4, y(p.value), 4), tellOf(series, p));
        continue;
      }
      const up = points.map(p => `${x(p.n)},${y(p.high)}`), down = points.map(p => `${x(p.n)},${y(p.low)}`).reverse();
      make("polygon", { points: [...up, ...down].join(" "), style: `fill:${series.colour};opacity:${series.base ? 0.05 : 0.1}` }, svg);
      make("polyline", { points: points.map(p => `${x(p.n)},${y(p.value)}`).join(" "), style: pen }, svg);
      for (const p of points) tip(box, mark(svg, series, x(p.n), y(p.value), series.base ? 3 : 4.5), tellOf(series, p));
    }
  };
  const front = (box, all, section, axis, size) => {
    const rows = all.filter(series => series.on).flatMap(series => series.points
      .filter(p => (size === "all" || p.n === 0 || p.n === +size) && p[axis] !== null && p[axis] > 0).map(p => ({ p, series })));
    if (!rows.length) { box.textContent = "Not measured for what is shown."; return; }
    const costs = rows.map(({ p }) => p[axis]), low = Math.min(...costs), high = Math.max(...costs);
    const ticks = [];
    for (let e = Math.floor(Math.log10(low)) - 1; e <= Math.ceil(Math.log10(high)); e++)
      for (const m of high / low > 1000 ? [1] : [1, 2, 5]) {
        const v = m * 10 ** e;
        if (v >= low * 0.8 && v <= high * 1.25) ticks.push([v, axis === "total_usd" ? `$${short(v)}` : short(v)]);
      }
    const places = { x: log(low, high), ...scaleY(rows.flatMap(({ p }) => [p.low, p.high])) };
    const names = { p50_ms: "milliseconds for one text (log)", total_usd: "labels + compute + LLM, $ (log)", flops: "FLOPs a text (log)", parameters: "parameters (log)", size_mb: "MB (log)" };
    const { svg, x, y, inner } = frame(box, `${section.metric} by cost; ${names[axis]}`, ticks, places);
    const best = [];
    let top = -Infinity;
    for (const row of [...rows].sort((a, b) => a.p[axis] - b.p[axis] || b.p.value - a.p.value))
      if (row.p.value > top) { top = row.p.value; best.push(row); }
    let path = "";
    best.forEach(({ p }, i) => { path += i ? `H${x(p[axis])}V${y(p.value)}` : `M${x(p[axis])} ${y(p.value)}`; });
    make("path", { d: `${path}H${inner.right}`, style: "fill:none;stroke:var(--ink);stroke-width:1.2;stroke-dasharray:2 3" }, svg);
    for (const { p, series } of rows) {
      make("line", { x1: x(p[axis]), x2: x(p[axis]), y1: y(p.low), y2: y(p.high), style: `stroke:${series.colour};stroke-width:1;opacity:.5` }, svg);
      tip(box, mark(svg, series, x(p[axis]), y(p.value), best.some(row => row.p === p) ? 6 : 4), [...tellOf(series, p), said[axis](p[axis])]);
    }
  };

  const redraws = [];
  document.querySelectorAll(".charts").forEach(node => {
    const section = sections[+node.dataset.section];
    const backbones = [...new Set(section.points.filter(p => !BASELINES.includes(p.procedure)).map(p => p.backbone))];
    const all = Object.keys(section.titles).map(key => {
      const [procedure, backbone] = [key.slice(0, key.indexOf("|")), key.slice(key.indexOf("|") + 1)];
      const base = BASELINES.includes(procedure), i = backbones.indexOf(backbone);
      return {
        key, title: section.titles[key], on: !["majority", "frequent-answer"].includes(procedure), base, hollow: procedure.endsWith("kd"),
        colour: i >= 0 ? `var(--c${i % 8})` : "var(--c6)", mark: i >= 0 ? MARKS[i % 5] : MARKS[5 + BASELINES.indexOf(procedure) % 3],
        dash: base ? "3 3" : DASHES[procedure] || "",
        points: section.points.filter(p => p.procedure === procedure && p.backbone === backbone),
      };
    });
    const axis = node.querySelector(".axis"), size = node.querySelector(".size"), legend = node.querySelector(".legend");
    const sizes = [...new Set(section.points.map(p => p.n).filter(n => n))].sort((a, b) => a - b);
    for (const n of [...sizes, "all"]) {
      const option = document.createElement("option");
      option.value = n;
      option.textContent = n === "all" ? "every size" : `${n.toLocaleString("en")} labels`;
      size.appendChild(option);
    }
    size.value = sizes.length ? sizes[sizes.length - 1] : "all";
    const draw = () => {
      curves(node.querySelector(".curves"), all, section);
      front(node.querySelector(".front"), all, section, axis.value, size.value);
    };
    for (const series of all) {
      const button = document.createElement("button");
      button.type = "button";
      button.setAttribute("aria-pressed", series.on);
      const svg = make("svg", { viewBox: "0 0 34 14", "aria-hidden": "true" }, button);
      make("line", { x1: 0, x2: 34, y1: 7, y2: 7, style: `stroke:${series.colour};stroke-width:2;stroke-dasharray:${series.dash}` }, svg);
      mark(svg, series, 17, 7, 4);
      button.appendChild(document.createTextNode(series.title));
      button.addEventListener("click", () => { series.on = !series.on; button.setAttribute("aria-pressed", series.on); draw(); });
      legend.appendChild(button);
    }
    axis.addEventListener("change", () => { if (axis.value === "total_usd") size.value = "all"; draw(); });
    size.addEventListener("change", draw);
    redraws.push(draw);
    draw();
  });
  let waiting = 0;
  addEventListener("resize", () => { clearTimeout(waiting); waiting = setTimeout(() => redraws.forEach(draw => draw()), 120); });
  addEventListener("beforeprint", () => redraws.forEach(draw => draw()));

  document.querySelectorAll("table.sortable").forEach(table => {
    const body = table.tBodies[0], given = [...body.rows];
    table.querySelectorAll("thead th").forEach((head, i) => {
      let down = true;
      head.addEventListener("click", () => {
        const value = row => row.cells[i]?.dataset.v;
        const rows = i ? [...body.rows].sort((a, b) => (down ? 1 : -1) * ((+value(b) || 0) - (+value(a) || 0))) : given;
        down = !down;
        body.append(...rows);
      });
    });
  });
})();
