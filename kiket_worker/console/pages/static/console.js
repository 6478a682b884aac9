// What pages gain where scripts run: charts from their tables, and parts that keep themselves up to date. Everything can
// be read without. No inline code anywhere (Content-Security-Policy); nothing is kept in the browser.
"use strict";

(() => {
  const charts = new Map();

  const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim();
  const toned = (tone, index) => colour(/^[1-6]$/.test(tone || "") ? `series-${tone}` : tone || `series-${(index % 6) + 1}`);
  const valueOf = (cell) => (cell && cell.dataset.value ? Number(cell.dataset.value) : null);

  // The labels and series that a figure's table has; see `chart` in _macros.html.jinja.
  function dataOf(figure) {
    const table = figure.querySelector("table");
    const heads = [...table.querySelectorAll("thead th")];
    let rows = [...table.querySelectorAll("tbody tr")].map((row) => [...row.cells]);
    if ("newestFirst" in figure.dataset) rows = rows.reverse();
    const labels = rows.map((cells) => cells[0].dataset.label || cells[0].textContent.trim());
    const series = heads.map((head, column) => ({ head, column })).filter(({ head }) => "series" in head.dataset);
    const group = heads.findIndex((head) => "group" in head.dataset);
    if (group < 0) {
      return { labels, sets: series.map(({ head, column }, index) => ({
        label: head.textContent.trim(), colour: toned(head.dataset.series, index), data: rows.map((cells) => valueOf(cells[column])),
      })) };
    }
    const tones = new Map(rows.map((cells) => [cells[group].textContent.trim(), cells[group].dataset.tone]));
    const sets = [...tones].map(([label, tone], index) => ({
      label, colour: toned(tone, index),
      data: rows.map((cells) => (cells[group].textContent.trim() === label ? valueOf(cells[series[0].column]) : null)),
    }));
    return { labels, sets };
  }

  function setsOf(figure) {
    const { labels, sets } = dataOf(figure);
    const line = figure.dataset.chart === "line";
    const datasets = sets.map((set) => ({
      label: set.label, data: set.data, borderColor: set.colour, backgroundColor: set.colour, borderWidth: line ? 2 : 0,
      pointRadius: labels.length > 60 ? 0 : 2, spanGaps: true, maxBarThickness: 32,
    }));
    return { labels, datasets };
  }

  function optionsOf(figure, { datasets }) {
    const { unit, chart } = figure.dataset;
    const stacked = chart !== "line" && ("stacked" in figure.dataset || datasets.some((set) => set.data.includes(null)));
    const muted = colour("muted");
    const isWhole = datasets.every((set) => set.data.every(Number.isInteger));
    const grouped = figure.querySelector("[data-group]") !== null;
    return {
      animation: false,
      responsive: true,
      maintainAspectRatio: false,
      interaction: { mode: "index", intersect: false },
      scales: {
        x: { stacked, grid: { display: false }, ticks: { color: muted, maxRotation: 0, autoSkipPadding: 12 } },
        y: {
          stacked, beginAtZero: true, grid: { color: colour("line") }, ticks: { color: muted, ...(isWhole && { precision: 0 }) },
          title: { display: Boolean(unit), text: unit, color: muted },
        },
      },
      plugins: {
        legend: { display: grouped || datasets.length > 1, labels: { color: colour("text"), boxWidth: 14 } },
        tooltip: { filter: (item) => item.raw !== null },
      },
    };
  }

  function draw(figure) {
    const data = setsOf(figure);
    if (!window.Chart || !data.labels.length || !data.datasets.length) return;
    const plot = document.createElement("div");
    const canvas = document.createElement("canvas");
    plot.className = "plot";
    canvas.setAttribute("role", "img");
    canvas.setAttribute("aria-label", `${figure.querySelector("figcaption").textContent.trim()}: a picture of the table below`);
    plot.append(canvas);
    const details = figure.querySelector("details");
    figure.insertBefore(plot, details);
    details.open = false;
    const type = figure.dataset.chart === "line" ? "line" : "bar";
    charts.set(figure, new Chart(canvas, { type, data, options: optionsOf(figure, data) }));
  }

  // A figure that has come in place of another one of the same id takes over its picture: nothing flickers or jumps.
  function takeOver(figure, old) {
    const chart = charts.get(old);
    charts.delete(old);
    const details = figure.querySelector("details");
    figure.insertBefore(chart.canvas.parentElement, details);
    details.open = false;
    charts.set(figure, chart);
    renew(figure);
  }

  function renew(figure) {
    const chart = charts.get(figure);
    chart.data = setsOf(figure);
    chart.options = optionsOf(figure, chart.data);
    chart.update("none");
  }

  function drawAll(root) {
    const gone = [...charts.keys()].filter((figure) => !figure.isConnected);
    for (const figure of root.querySelectorAll("figure[data-chart]")) {
      const old = gone.find((one) => one.id === figure.id);
      if (old) takeOver(figure, old);
      else if (!charts.has(figure)) draw(figure);
    }
    for (const figure of gone.filter((one) => charts.has(one))) {
      charts.get(figure).destroy();
      charts.delete(figure);
    }
  }

  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => [...charts.keys()].forEach(renew));

  // Parts with data-poll="seconds" ask for themselves by the event `poll`, while somebody can see them.
  function poll(part) {
    let asked = Date.now();
    const timer = setInterval(() => {
      if (!part.isConnected) clearInterval(timer);
      else if (!document.hidden && Date.now() - asked >= Number(part.dataset.poll) * 1000) {
        asked = Date.now();
        htmx.trigger(part, "poll");
      }
    }, 500);
  }

  // What the reader is at: the focus, what is open, and how far it is scrolled.
  function placeIn(part) {
    const focused = part.contains(document.activeElement) ? document.activeElement : null;
    const href = focused?.getAttribute("href");
    const alike = href ? [...part.querySelectorAll(`a[href="${CSS.escape(href)}"]`)].indexOf(focused) : -1;
    const details = focused?.tagName === "SUMMARY" ? focused.parentElement.id : null;
    return {
      focus: () => (details ? document.querySelector(`#${CSS.escape(details)} > summary`)
        : href ? part.querySelectorAll(`a[href="${CSS.escape(href)}"]`)[alike]
        : focused?.id && document.getElementById(focused.id)),
      open: [...part.querySelectorAll("details[id]")].map((one) => [one.id, one.open]),
      scrolled: [...part.querySelectorAll(".scroll[id]")].map((one) => [one.id, one.scrollLeft, one.scrollTop]),
    };
  }

  function returnTo({ focus, open, scrolled }) {
    for (const [id, isOpen] of open) document.getElementById(id)?.toggleAttribute("open", isOpen);
    for (const [id, left, top] of scrolled) document.getElementById(id)?.scrollTo(left, top);
    focus()?.focus({ preventScroll: true });
  }

  // What has not changed is not put in again.
  const texts = new WeakMap();
  const places = new WeakMap();
  document.addEventListener("htmx:beforeSwap", ({ detail }) => {
    if (!detail.shouldSwap) return;
    if (texts.get(detail.target) === detail.xhr.responseText) detail.shouldSwap = false;
    else {
      texts.set(detail.target, detail.xhr.responseText);
      places.set(detail.target, placeIn(detail.target));
    }
  });
  document.addEventListener("htmx:afterSwap", ({ detail }) => {
    drawAll(detail.target);
    const place = places.get(detail.target);
    if (place) returnTo(place);
    places.delete(detail.target);
  });

  drawAll(document);
  for (const part of document.querySelectorAll("[data-poll]")) poll(part);
})();
