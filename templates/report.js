"use strict";
(() => {
  const $ = (q, at = document) => at.querySelector(q), $$ = (q, at = document) => [...at.querySelectorAll(q)];
  const data = JSON.parse($("#data").textContent), words = data.words, root = document.documentElement;
  const make = (tag, props = {}, ...kids) => {
    const e = Object.assign(document.createElement(tag), props);
    e.append(...kids);
    return e;
  };
  const say = (text, values = {}) => (words[text] || text).replace(/\{(\w+)\}/g, (m, k) => values[k] ?? m);

  // theme: as the system says until a reader chooses
  const store = { get: k => { try { return localStorage.getItem(k); } catch { return null; } },
                  set: (k, v) => { try { localStorage.setItem(k, v); } catch { /* a file may have no storage */ } } };
  const theme = store.get("salve-theme");
  if (theme) root.dataset.theme = theme;
  const isDark = () => root.dataset.theme ? root.dataset.theme === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
  const flipTheme = () => { root.dataset.theme = isDark() ? "light" : "dark"; store.set("salve-theme", root.dataset.theme); };
  $("#theme").onclick = flipTheme;

  // addresses: what a hash names is unfolded, shown and focused
  const reveal = id => {
    const target = id && document.getElementById(id);
    if (!target) return;
    for (let e = target; e; e = e.parentElement) if (e.tagName === "DETAILS") e.open = true;
    if (target.hidden && target.tagName === "TR") { filters.reset(); index.update(); index.show(target); }
    target.scrollIntoView();
    if (target.tabIndex >= -1 && target.hasAttribute("tabindex")) target.focus({ preventScroll: true });
  };
  addEventListener("hashchange", () => reveal(decodeURIComponent(location.hash.slice(1))));
  document.addEventListener("click", e => {
    const link = e.target.closest('a[href^="#"]');
    if (link && link.hash === location.hash) reveal(decodeURIComponent(link.hash.slice(1)));
  });

  // jump to a class
  const jump = $("#jump"), byLabel = new Map(data.classes.map(c => [c.label.toLowerCase(), c]));
  const go = text => {
    const wanted = text.trim().toLowerCase();
    const hit = wanted && (byLabel.get(wanted) || data.classes.find(c => c.label.toLowerCase().startsWith(wanted))
      || data.classes.find(c => c.label.toLowerCase().includes(wanted) || c.full.toLowerCase().includes(wanted)));
    if (!hit) return false;
    location.hash = hit.anchor;
    reveal(hit.anchor);
    return true;
  };
  jump.addEventListener("input", () => {
    const wanted = jump.value.trim().toLowerCase();
    const hits = wanted ? data.classes.filter(c => c.label.toLowerCase().includes(wanted)).slice(0, 12) : [];
    $("#jump-list").replaceChildren(...hits.map(c => make("option", { value: c.label })));
    jump.removeAttribute("aria-invalid");
    if (byLabel.has(wanted) && !data.classes.some(c => c.label.toLowerCase() !== wanted && c.label.toLowerCase().startsWith(wanted))) go(wanted);
  });
  jump.addEventListener("keydown", e => {
    if (e.key === "Enter" && !go(jump.value)) jump.setAttribute("aria-invalid", "true");
    if (e.key === "Escape") { jump.value = ""; jump.blur(); }
  });

  // the index: sorted, filtered, in pages
  const PAGE = 100, filters = $("#filters");
  const index = {
    rows: $$("#index-table tbody tr"), shown: [], page: 0, body: $("#index-table tbody"),
    update() {
      const f = new FormData(filters), name = (f.get("name") || "").toLowerCase(), flag = (f.get("flag") || "").toLowerCase();
      const least = Number(f.get("n") || 0), group = f.get("group") || "", outcome = f.get("outcome") || "";
      this.shown = this.rows.filter(r => (!group || r.dataset.group === group) && (!outcome || r.dataset.outcome === outcome)
        && (!name || r.cells[0].textContent.toLowerCase().includes(name)) && (!flag || r.cells[r.cells.length - 1].textContent.toLowerCase().includes(flag))
        && Number(r.dataset.keys.split(",")[0] || 0) >= least);
      this.page = 0;
      this.draw();
    },
    draw() {
      const first = this.page * PAGE, now = new Set(this.shown.slice(first, first + PAGE));
      for (const r of this.rows) r.hidden = !now.has(r);
      filters.querySelector("output").textContent = say("{n} of {total} classes", { n: this.shown.length, total: this.rows.length });
      const pages = Math.ceil(this.shown.length / PAGE), nav = $("#pages");
      nav.hidden = pages < 2;
      const button = (text, to) => make("button", { type: "button", textContent: text, disabled: to < 0 || to >= pages, onclick: () => { this.page = to; this.draw(); } });
      nav.replaceChildren(button("←", this.page - 1), say("page {n} of {total}", { n: this.page + 1, total: pages }), button("→", this.page + 1));
    },
    show(row) { this.page = Math.floor(this.shown.indexOf(row) / PAGE); this.draw(); },
    sort(head, key) {
      const down = head.getAttribute("aria-sort") === "ascending" ? -1 : 1, col = head.cellIndex;
      const value = r => key === "text" ? r.cells[col].textContent : r.dataset.keys.split(",")[key];
      this.rows.sort((a, b) => {
        const x = value(a), y = value(b);
        if (key !== "text" && (x === "" || y === "")) return (x === "") - (y === "");
        return down * (key === "text" ? x.localeCompare(y) : x - y);
      });
      $$("#index-table th[data-sort]").forEach(h => h.removeAttribute("aria-sort"));
      head.setAttribute("aria-sort", down > 0 ? "ascending" : "descending");
      this.body.append(...this.rows);
      this.update();
    },
  };
  if (filters) {
    filters.hidden = false;
    filters.addEventListener("input", () => index.update());
    filters.addEventListener("submit", e => e.preventDefault());
    for (const head of $$("#index-table th[data-sort]")) {
      const button = make("button", { type: "button", onclick: () => index.sort(head, head.dataset.sort) }, ...head.childNodes);
      head.append(button);
    }
    index.update();
  }

  // suppression: one strength moves curves, accuracies and the confusion matrix together, from exact changes
  const trace = data.suppression, box = $("#explorer"), MOST = 30, SVG = "http://www.w3.org/2000/svg";
  const draw2 = (tag, props, ...kids) => {
    const e = document.createElementNS(SVG, tag);
    for (const [key, v] of Object.entries(props)) e.setAttribute(key, v);
    e.append(...kids);
    return e;
  };
  if (trace && trace.traces.length && box) {
    const labels = trace.labels, k = labels.length, totals = Array(k).fill(0), start = Array(k).fill(0);
    for (const [i, j, n] of trace.counts) { totals[i] += n; if (i === j) start[i] += n; }
    const pick = make("select", { id: "feature" }, ...trace.traces.map((t, i) => make("option", { value: i, textContent: t.label })));
    const slider = make("input", { type: "range", min: 0, max: 1000, value: 0, id: "strength" });
    const out = make("output"), edit = make("button", { type: "button", textContent: say("before / after") }), result = $("#suppressed");
    let last = 300;
    const shareOf = (hits, i) => totals[i] ? hits[i] / totals[i] : null;
    const percent = v => v === null ? "–" : `${(100 * v).toFixed(1).replace(/\.0$/, "")} %`;
    const strengthOf = t => t.upTo * (Number(slider.value) / 1000) ** 2;
    const at = (t, a) => { // images by class and prediction, and how many of each class are right
      const cells = new Map(trace.counts.map(([i, j, n]) => [i * k + j, n])), hits = start.slice(), moved = new Map();
      const add = (i, j, n) => { cells.set(i * k + j, (cells.get(i * k + j) || 0) + n); if (i === j) hits[i] += n; };
      for (let i = 0; i < t.at.length && t.at[i] <= a; i++) {
        add(t.of[i], t.from[i], -1);
        add(t.of[i], t.to[i], 1);
        for (const c of [t.of[i], t.to[i]]) moved.set(c, (moved.get(c) || 0) + 1);
      }
      return { cells, hits, moved };
    };
    const chosen = (t, moved) => {
      if (k <= MOST) return labels.map((_, i) => i);
      const others = [...moved.keys()].filter(c => c !== t.index).sort((x, y) => moved.get(y) - moved.get(x));
      return [t.index, ...others.slice(0, MOST - 1)];
    };
    const curve = (t, a) => { // exact: one step for each change of a prediction
      const W = 300, H = 110, L = 8, B = 90, x = v => L + (W - 2 * L) * Math.sqrt(v / t.upTo), rest = totals.reduce((s, n) => s + n, 0) - totals[t.index];
      let own = start[t.index], others = start.reduce((s, n) => s + n, 0) - own;
      const y = (hits, n) => B - (B - 10) * (n ? hits / n : 0), path = (hits, n) => `M${L} ${y(hits, n)}`;
      let mine = path(own, totals[t.index]), theirs = path(others, rest);
      for (let i = 0; i < t.at.length; i++) {
        const change = (t.to[i] === t.of[i]) - (t.from[i] === t.of[i]), px = x(t.at[i]).toFixed(1);
        if (!change) continue;
        if (t.of[i] === t.index) mine += `H${px}V${y(own += change, totals[t.index]).toFixed(1)}`;
        else theirs += `H${px}V${y(others += change, rest).toFixed(1)}`;
      }
      const text = say("Accuracy of {name} and of the others", { name: t.label }), now = x(a);
      return draw2("svg", { viewBox: `0 0 ${W} ${H}`, width: W, height: H, role: "img", "aria-label": text, class: "steps-curve" },
        draw2("path", { d: `M${L} 10H${W - L}M${L} ${B}H${W - L}`, stroke: "#d4d4d4", fill: "none" }),
        draw2("path", { d: `${theirs}H${W - L}`, stroke: "#e69f00", fill: "none", "stroke-width": 2, "stroke-dasharray": "4 2.5" }),
        draw2("path", { d: `${mine}H${W - L}`, stroke: "#0072b2", fill: "none", "stroke-width": 2.4 }),
        draw2("path", { d: `M${now} 4V${B}`, stroke: "#d55e00", "stroke-width": 2, class: "now" }),
        draw2("text", { x: L, y: H - 6, "font-size": 11, fill: "#595959" }, "0"),
        draw2("text", { x: W - L, y: H - 6, "font-size": 11, fill: "#595959", "text-anchor": "end" }, `α̂ = ${t.upTo.toPrecision(3)}`));
    };
    const drawMark = a => {
      for (const svg of $$(".card .curve svg[data-axis]")) {
        const [x0, x1, high, kind, top, bottom] = svg.dataset.axis.split(" ");
        const bend = v => kind === "log1p" ? Math.log1p(v) : v;
        const x = Number(x0) + Math.min(1, bend(a) / bend(Number(high))) * (x1 - x0);
        let line = svg.querySelector(".at");
        if (!line) svg.append(line = draw2("line", { class: "at", stroke: "#d55e00", "stroke-width": 1.5 }));
        for (const [key, v] of Object.entries({ x1: x, x2: x, y1: top, y2: bottom })) line.setAttribute(key, v);
      }
    };
    const bar = v => {
      const meter = make("span", { className: "meter" }), fill = make("i");
      fill.style.width = `${100 * (v || 0)}%`;
      meter.append(fill);
      return meter;
    };
    const draw = () => {
      const t = trace.traces[pick.value], a = strengthOf(t), { cells, hits, moved } = at(t, a), shown = chosen(t, moved);
      out.textContent = `α̂ = ${a.toPrecision(3)}`;
      slider.setAttribute("aria-valuetext", out.textContent);
      const top = Math.max(1, ...shown.flatMap(i => shown.map(j => cells.get(i * k + j) || 0)));
      const rows = shown.map(i => {
        const v = shareOf(hits, i), row = make("tr", { className: i === t.index ? "own" : "" },
          make("th", { scope: "row", textContent: labels[i], title: labels[i] }), make("td", {}, bar(v)),
          make("td", { className: "num now", textContent: percent(v) }), make("td", { className: "num", textContent: percent(shareOf(start, i)) }));
        for (const j of shown) {
          const n = cells.get(i * k + j) || 0, cell = make("td", { className: "cell", textContent: n || "", title: `${labels[i]} → ${labels[j]}: ${n}` });
          if (n) cell.style.background = `rgb(${i === j ? "0 114 178" : "213 94 0"} / ${Math.round(8 + 52 * n / top)}%)`;
          row.append(cell);
        }
        return row;
      });
      const heads = ["Class", "", "Accuracy", "Unedited"].map(h => h ? make("th", { scope: "col", textContent: say(h) }) : make("td"));
      const others = shown.map(j => make("th", { scope: "col", className: "tilted", title: labels[j] }, make("span", { textContent: labels[j] })));
      const caption = say("Accuracy, and images by class (rows) and prediction (columns)") + (shown.length < k ? ". " + say("The {n} of {total} classes that change most.", { n: shown.length, total: k }) : "");
      const left = result.scrollLeft;
      result.replaceChildren(curve(t, a), make("table", { className: "confusion" }, make("caption", { textContent: caption }),
        make("thead", {}, make("tr", {}, ...heads, ...others)), make("tbody", {}, ...rows)));
      result.scrollLeft = left;
      drawMark(a);
    };
    box.append(make("label", { htmlFor: "feature", textContent: say("Suppress the feature of") }), pick,
      make("label", { htmlFor: "strength", textContent: say("by") }), slider, out, edit);
    box.hidden = result.hidden = false;
    const below = () => { const b = $("#bar"); box.style.top = getComputedStyle(b).position === "sticky" ? `${b.offsetHeight}px` : 0; };
    addEventListener("resize", below);
    below();
    result.tabIndex = 0;
    result.setAttribute("role", "region");
    result.setAttribute("aria-label", say("Predictions at this strength"));
    slider.addEventListener("input", draw);
    pick.addEventListener("change", draw);
    edit.onclick = () => { const now = Number(slider.value); slider.value = now ? (last = now, 0) : last; draw(); };
    draw();
  }

  // images: larger on click, before and after side by side
  const dialog = make("dialog");
  document.body.append(dialog);
  dialog.addEventListener("click", e => { if (e.target === dialog) dialog.close(); });
  const enlarge = img => {
    const row = img.closest("tr, .tile, .steps, .step"), all = row ? $$("img", row) : [img];
    let at = all.indexOf(img);
    const big = make("img"), text = make("p"), next = make("button", { type: "button", textContent: say("before / after") });
    const draw = () => { big.src = all[at].src; big.alt = text.textContent = all[at].alt; };
    next.onclick = () => { at = (at + 1) % all.length; draw(); };
    next.hidden = all.length < 2;
    draw();
    dialog.replaceChildren(big, text, next, " ", make("button", { type: "button", textContent: say("Close"), onclick: () => dialog.close() }));
    dialog.setAttribute("aria-label", big.alt);
    dialog.showModal();
  };
  const zoomable = ".images img, .tile img, .step img, .overview .what img";
  for (const img of $$(zoomable)) { img.tabIndex = 0; img.setAttribute("role", "button"); }
  document.addEventListener("click", e => { if (e.target.matches(zoomable)) enlarge(e.target); });

  // the bar's downloads start at once; rerun and cite are copied as well
  for (const link of $$(".acts a")) link.addEventListener("click", e => {
    const target = document.getElementById(link.hash.slice(1));
    if (target.download) { e.preventDefault(); target.click(); }
    const text = $("code, .cite", target.parentElement) && target.nextElementSibling;
    if (!target.download && text && navigator.clipboard) navigator.clipboard.writeText(text.firstChild.textContent.trim()).catch(() => {});
  });

  // commands and citations: copied by a button
  for (const code of $$("code.command, .cite")) {
    if (!navigator.clipboard) break;
    const button = make("button", { type: "button", className: "copy", textContent: say("copy") });
    button.onclick = () => navigator.clipboard.writeText(code.textContent).then(() => { button.textContent = say("copied"); });
    code.after(button);
  }

  // review: what is said in the form, as the file that the gate reads
  const review = $("#review-form");
  if (review) {
    const quote = text => JSON.stringify(text).replace(/\x7f/g, "\\u007f");
    const write = () => {
      const who = review.elements.who, said = $$("fieldset", review).filter(f => $("input:checked", f));
      if (!who.reportValidity()) return;
      const entries = said.map(f => {
        const img = $("img", f), value = name => $(`[name="${name}"]`, f).value.trim(), lines = [];
        if (img) lines.push(`crop = ${quote(img.src)}`);
        for (const [key, text] of [["name", value("name")], ["verdict", $("input:checked", f).value], ["who", who.value.trim()]]) lines.push(`${key} = ${quote(text)}`);
        lines.push(`when = ${new Date().toISOString().slice(0, 10)}`, `why = ${quote(value("why"))}`);
        return `${f.dataset.head.trimEnd()}\n${lines.join("\n")}\n`;
      });
      const url = URL.createObjectURL(new Blob([entries.join("\n")], { type: "application/toml" }));
      make("a", { href: url, download: "salve-review.toml" }).click();
      setTimeout(() => URL.revokeObjectURL(url), 10000);
      $("output", review).textContent = say("{n} written", { n: entries.length });
    };
    $("button", review).onclick = write;
    review.addEventListener("submit", e => { e.preventDefault(); write(); });
    review.hidden = false;
  }

  // keyboard
  const help = () => {
    const keys = [["/", "jump to a class"], ["j, k", "next, previous class"], ["t", "light or dark"], ["i", "index of classes"], ["?", "these keys"], ["Esc", "close"]];
    dialog.replaceChildren(make("dl", {}, ...keys.flatMap(([key, what]) => [make("dt", {}, make("code", { textContent: key })), make("dd", { textContent: say(what) })])),
      make("button", { type: "button", textContent: say("Close"), onclick: () => dialog.close() }));
    dialog.setAttribute("aria-label", say("Keys"));
    dialog.showModal();
  };
  $("#keys").onclick = help;
  const cards = $$(".card");
  const step = by => {
    const place = cards.findIndex(c => c.contains(document.activeElement));
    const at = place < 0 ? cards.findIndex(c => c.getBoundingClientRect().top > 60) - (by > 0 ? 1 : 0) : place;
    const card = cards[Math.min(cards.length - 1, Math.max(0, at + by))];
    if (card) { history.replaceState(null, "", `#${card.id}`); reveal(card.id); }
  };
  document.addEventListener("keydown", e => {
    if (e.target.matches(zoomable) && (e.key === "Enter" || e.key === " ")) { e.preventDefault(); enlarge(e.target); return; }
    if (e.ctrlKey || e.metaKey || e.altKey || e.target.matches("input, select, textarea") || dialog.open) return;
    const act = { "/": () => jump.focus(), j: () => step(1), k: () => step(-1), t: flipTheme, i: () => reveal("index"), "?": help }[e.key];
    if (act) { e.preventDefault(); act(); }
  });

  $(".tools").hidden = false;
  if (location.hash) reveal(decodeURIComponent(location.hash.slice(1)));
})();
