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

  function draw(figure) {
    const details = figure.querySelector("details");
    const { labels, sets } = dataOf(figure);
    if (!window.Chart || !labels.length || !sets.length) return;
    const plot = document.createElement("div");
    const canvas = document.createElement("canvas");
    const title = figure.querySelector("figcaption").textContent.trim();
    plot.className = "plot";
    canvas.setAttribute("role", "img");
    canvas.setAttribute("aria-label", `${title}: a picture of the table that follows`);
    plot.append(canvas);
    figure.insertBefore(plot, details);
    if (!("kept" in details.dataset)) details.open = false;
    const unit = figure.dataset.unit;
    const line = figure.dataset.chart === "line";
    const stacked = "stacked" in figure.dataset || sets.some((set) => set.data.includes(null));
    charts.set(figure, new Chart(canvas, {
      type: line ? "line" : "bar",
      data: { labels, datasets: sets.map((set) => ({
        label: set.label, data: set.data, borderColor: set.colour, backgroundColor: set.colour, borderWidth: line ? 2 : 0,
        pointRadius: labels.length > 60 ? 0 : 2, spanGaps: true, maxBarThickness: 32,
      })) },
      options: {
        animation: false,
        responsive: true,
        maintainAspectRatio: false,
        interaction: { mode: "index", intersect: false },
        color: colour("text"),
        scales: {
          x: { stacked: stacked && !line, grid: { display: false }, ticks: { color: colour("muted"), maxRotation: 0, autoSkipPadding: 12 } },
          y: {
            stacked: stacked && !line, beginAtZero: true, grid: { color: colour("line") },
            title: { display: Boolean(unit), text: unit, color: colour("muted") }, ticks: { color: colour("muted") },
          },
        },
        plugins: {
          legend: { display: sets.length > 1, labels: { color: colour("text"), boxWidth: 14 } },
          tooltip: { filter: (item) => item.raw !== null },
        },
      },
    }));
  }

  function forget(figure) {
    charts.get(figure)?.destroy();
    charts.delete(figure);
    figure.querySelector(".plot")?.remove();
  }

  function drawAll(root) {
    const figures = root.matches?.("figure[data-chart]") ? [root] : [...root.querySelectorAll("figure[data-chart]")];
    for (const figure of figures.filter((one) => !charts.has(one))) draw(figure);
  }

  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => {
    for (const figure of [...charts.keys()]) {
      figure.querySelector("details").dataset.kept = "";
      forget(figure);
      draw(figure);
    }
  });

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

  // What has not changed is not put in again; what the reader has opened or scrolled stays so.
  const last = new WeakMap();
  document.addEventListener("htmx:beforeSwap", ({ detail }) => {
    if (!detail.shouldSwap) return;
    const text = detail.xhr.responseText;
    if (last.get(detail.target) === text) detail.shouldSwap = false;
    else {
      last.set(detail.target, text);
      detail.target.kept = {
        open: new Map([...detail.target.querySelectorAll("details[id]")].map((one) => [one.id, one.open])),
        scrolled: [...detail.target.querySelectorAll(".scroll[id]")].map((one) => [one.id, one.scrollLeft, one.scrollTop]),
      };
    }
  });
  document.addEventListener("htmx:afterSwap", ({ detail }) => {
    for (const figure of [...charts.keys()]) if (!figure.isConnected) forget(figure);
    const kept = detail.target.kept;
    drawAll(detail.target);
    for (const [id, open] of kept?.open || []) {
      const details = document.getElementById(id);
      if (details) details.open = open;
    }
    for (const [id, left, top] of kept?.scrolled || []) document.getElementById(id)?.scrollTo(left, top);
  });

  drawAll(document);
  for (const part of document.querySelectorAll("[data-poll]")) poll(part);
})();
