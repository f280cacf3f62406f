// The page is complete without this. Here its numbers go on, once a second, and its charts are drawn.
"use strict";

(() => {
  const NOTHING = "–";
  const KEPT = 600; // seconds of a chart
  const SILENT = 5000; // milliseconds without news after which the connection is lost
  const AGAIN = 2000;
  const GAP = 7; // seconds between points with no line

  // Numbers as the server writes them: web/figures.py.

  const digits = (number) => number.toFixed(number < 9.995 ? 2 : number < 99.95 ? 1 : 0);

  function scaled(number, step, units) {
    let at = 0;
    while (at < units.length - 1 && number >= (step === 1000 ? 999.5 : step)) {
      number /= step;
      at += 1;
    }
    return [number, units[at]];
  }

  function rate(number) {
    const [value, unit] = scaled(number, 1000, ["", "k", "M", "G"]);
    if (unit) return `${digits(value)} ${unit}/s`;
    return `${value.toFixed(value >= 99.95 || Number.isInteger(value) ? 0 : 1)}/s`;
  }

  function seconds(number) {
    if (number === null) return NOTHING;
    if (!number) return "0 s";
    if (number >= 0.9995) return `${digits(number)} s`;
    return number < 0.0009995 ? `${digits(number * 1e6)} µs` : `${digits(number * 1e3)} ms`;
  }

  function size(number) {
    const [value, unit] = scaled(number, 1024, ["", "K", "M", "G"]);
    return unit ? `${digits(value)} ${unit}iB` : `${number} B`;
  }

  function span(number) {
    const whole = Math.floor(number);
    if (whole < 1) return "now";
    if (whole < 60) return `${whole} s`;
    const minutes = Math.floor(whole / 60);
    const hours = Math.floor(whole / 3600);
    if (!hours) return `${minutes} min`;
    return hours < 24 ? `${hours} h ${minutes % 60} min` : `${Math.floor(hours / 24)} d ${hours % 24} h`;
  }

  const count = (number) => number.toLocaleString("en-US");
  const FIGURES = { rate, seconds, size, span, count };

  // Numbers

  let cells = [];

  function collect() {
    cells = [...document.querySelectorAll("[data-path]")].map((node) => ({
      node,
      path: node.dataset.path.split("."),
      write: FIGURES[node.dataset.as],
      text: node.textContent,
    }));
  }

  function show(report) {
    for (const cell of cells) {
      const value = cell.path.reduce((found, key) => found?.[key], report);
      if (value === undefined) continue; // the parts are about to be replaced
      const text = cell.write(value);
      if (text !== cell.text) cell.node.textContent = cell.text = text;
    }
  }

  // Parts of the page, which the server writes anew where more than their numbers changed

  let isAsking = false;

  async function renew(shapes) {
    const parts = [...document.querySelectorAll("[data-part]")];
    if (isAsking || parts.every((part) => part.dataset.shape === shapes[part.dataset.part])) return;
    isAsking = true;
    try {
      const response = await fetch("/", { cache: "no-store" });
      if (!response.ok) return;
      const written = new DOMParser().parseFromString(await response.text(), "text/html");
      for (const part of parts) {
        const newer = written.querySelector(`[data-part=${part.dataset.part}]`);
        if (!newer || newer.dataset.shape === part.dataset.shape) continue;
        if (part.dataset.part === "services") erase();
        part.replaceChildren(...newer.childNodes);
        part.dataset.shape = newer.dataset.shape;
      }
      collect();
      draw();
    } catch {
      // the connection is lost, which the stream of events says too
    } finally {
      isAsking = false;
    }
  }

  // Charts: columns of points by service, and what is drawn of them

  const courses = new Map();
  let charts = [];

  const NEVER = [[], [], [], [], [], []];
  const push = (columns, point) => columns.forEach((column, index) => column.push(point[index]));

  function add(service, point) {
    const columns = courses.get(service) ?? structuredClone(NEVER);
    courses.set(service, columns);
    const last = columns[0].at(-1);
    if (point[0] <= last) return;
    if (point[0] > last + GAP) push(columns, [last + 1, null, null, null, null, null]);
    push(columns, point);
    const begin = columns[0].findIndex((when) => when >= point[0] - KEPT);
    if (begin > 0) for (const column of columns) column.splice(0, begin);
  }

  // What the server remembers stands between what is older and what came since.
  function insert(service, points) {
    const known = courses.get(service) ?? NEVER;
    const rows = known[0].map((_, index) => known.map((column) => column[index]));
    courses.delete(service);
    const older = rows.filter(([when]) => when < points[0]?.[0]);
    for (const point of [...older, ...points, ...rows]) add(service, point);
  }

  const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim();

  const KINDS = {
    rates: {
      columns: [0, 1, 2, 3],
      write: rate,
      least: 10,
      series: () => [
        { label: "received", stroke: colour("received"), fill: colour("fill"), width: 1.5 },
        { label: "answered", stroke: colour("answered"), width: 1.5, dash: [6, 3] },
        { label: "dropped", stroke: colour("dropped"), width: 1.5, dash: [2, 2] },
      ],
    },
    latency: {
      columns: [0, 4, 5],
      write: seconds,
      least: 1e-4,
      series: () => [
        { label: "p50", stroke: colour("received"), width: 1.5 },
        { label: "p99", stroke: colour("dropped"), width: 1.5, dash: [4, 3] },
      ],
    },
  };

  function options(kind, node) {
    const { write, least, series } = KINDS[kind];
    const axis = {
      stroke: colour("quiet"),
      font: "12px system-ui, sans-serif",
      grid: { stroke: colour("line"), width: 1 },
      ticks: { show: false },
    };
    const value = (_, number) => (number === null || number === undefined ? NOTHING : write(number));
    return {
      width: node.clientWidth,
      height: 160,
      padding: [8, 22, 0, 0],
      legend: { markers: { dash: (plot, index) => dashes(plot.series[index].dash) } },
      cursor: { drag: { x: false, y: false }, points: { size: 6 }, y: false },
      scales: {
        x: { range: (_, first, last) => [Math.min(first ?? 0, (last ?? 0) - 60), last ?? 0] },
        y: { range: (_, __, most) => [0, Math.max(least, (most ?? 0) * 1.1)] },
      },
      series: [
        { label: "time", value: (_, when) => (when === null || when === undefined ? NOTHING : clock(when)) },
        ...series().map((one) => ({ ...one, value, points: { show: false } })),
      ],
      axes: [
        { ...axis, space: 70, size: 26, values: times },
        { ...axis, space: 36, size: 64, values: (_, all) => all.map((number) => (number ? write(number) : "0")) },
      ],
    };
  }

  // Hours and minutes, and seconds where a minute has several marks.
  const times = (_, all) => all.map((when) => clock(when).slice(0, all[1] - all[0] < 60 ? 8 : 5));
  const clock = (when) => new Date(when * 1000).toLocaleTimeString("en-GB");

  const dashes = (dash) => (dash ? (dash[0] > 3 ? "dashed" : "dotted") : "solid");

  function erase() {
    for (const { plot } of charts) plot.destroy();
    charts = [];
    widths.disconnect();
  }

  function draw() {
    if (!window.uPlot) return; // not yet
    for (const section of document.querySelectorAll("[data-service]")) {
      for (const node of section.querySelectorAll("[data-chart]")) {
        if (node.firstChild) continue;
        const kind = node.dataset.chart;
        const chart = { node, service: section.dataset.service, kind };
        chart.plot = new uPlot(options(kind, node), data(chart), node);
        charts.push(chart);
        widths.observe(node);
      }
    }
  }

  function data({ service, kind }) {
    const columns = courses.get(service) ?? NEVER;
    return KINDS[kind].columns.map((index) => columns[index]);
  }

  const redraw = () => charts.forEach((chart) => chart.plot.setData(data(chart)));

  const widths = new ResizeObserver(() => {
    for (const { node, plot } of charts) {
      if (node.clientWidth && node.clientWidth !== plot.width) plot.setSize({ width: node.clientWidth, height: 160 });
    }
  });

  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => {
    erase();
    document.querySelectorAll("[data-chart]").forEach((node) => node.replaceChildren());
    draw();
  });

  // News

  let stream = null;
  let heard = 0;
  let marked = 0;
  const link = document.getElementById("link");
  const { title } = document;

  function tell(text, isLost) {
    if (link.textContent === text) return;
    link.textContent = text;
    link.classList.toggle("lost", isLost);
    document.title = isLost ? `(lost) ${title}` : title;
  }

  async function recall() {
    try {
      const response = await fetch("/history.json", { cache: "no-store" });
      if (response.ok) for (const [service, points] of Object.entries(await response.json())) insert(service, points);
      redraw();
    } catch {
      // as above
    }
  }

  function take(message) {
    heard = Date.now();
    const report = JSON.parse(message.data);
    tell("live", false);
    let newest = 0;
    for (const { name, point } of report.services) {
      if (!point) continue;
      add(name, point);
      newest = Math.max(newest, point[0]);
    }
    const names = new Set(report.services.map(({ name }) => name));
    for (const name of courses.keys()) if (!names.has(name)) courses.delete(name);
    show(report);
    if (newest !== marked) redraw();
    marked = newest;
    renew(report.shapes);
  }

  function connect() {
    stream?.close();
    heard = Date.now();
    const opened = (stream = new EventSource("/events"));
    opened.onopen = recall;
    opened.onmessage = take;
    opened.onerror = () => {
      if (opened !== stream) return;
      tell("connection lost, trying again", true);
      if (opened.readyState === EventSource.CLOSED) heard = Date.now() - SILENT + AGAIN;
    };
  }

  setInterval(() => {
    if (!stream || Date.now() - heard <= SILENT) return;
    tell("connection lost, trying again", true);
    connect();
  }, 1000);

  // A page that nobody sees asks for nothing: a browser has few connections to a server.
  document.addEventListener("visibilitychange", () => {
    if (!document.hidden) return connect();
    stream?.close();
    stream = null;
  });

  // What the server wrote is painted first, and the library of charts is read after it.
  const library = document.createElement("script");
  library.src = document.currentScript.dataset.charts;
  library.onload = draw;
  collect();
  requestAnimationFrame(() => setTimeout(() => {
    document.head.append(library);
    connect();
  }));
})();
