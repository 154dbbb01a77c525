"use strict";
(() => {
  const root = document.documentElement;
  const dark = matchMedia("(prefers-color-scheme: dark)");
  const tone = () => (dark.matches ? "dark" : "light");
  const colour = (name) => getComputedStyle(root).getPropertyValue(name).trim();
  const packed = document.getElementById("plotly");
  let library;

  // unpacked once, when the first chart comes near; without it the figures stay
  const load = () =>
    (library ??= (async () => {
      const bytes = Uint8Array.from(atob(packed.textContent), (c) => c.charCodeAt(0));
      const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
      const script = document.createElement("script");
      script.textContent = await new Response(stream).text();
      document.head.append(script);
    })());

  const dressed = (figure, box) => {
    const colours = new Map([...box.querySelectorAll("input")].map((input) => [input.value, input.dataset[tone()]]));
    for (const trace of figure.data) {
      const own = colours.get(String(trace.meta));
      if (trace.line) trace.line.color = own;
      trace.marker.color = own;
      if (trace.marker.line) trace.marker.line.color = trace.marker.symbol === "x-thin" ? own : colour("--text");
    }
    const axis = { gridcolor: colour("--line"), linecolor: colour("--muted"), zeroline: false, automargin: true };
    const layout = figure.layout;
    layout.font = { family: "system-ui, sans-serif", size: 13, color: colour("--text") };
    layout.paper_bgcolor = layout.plot_bgcolor = "rgba(0,0,0,0)";
    layout.hoverlabel = { bgcolor: colour("--card"), bordercolor: colour("--muted"), font: { color: colour("--text") } };
    layout.dragmode = false;
    Object.assign(layout.xaxis, axis, { fixedrange: true });
    Object.assign(layout.yaxis, axis, { fixedrange: true });
    layout.shapes[0].line.color = colour("--muted");
    return figure;
  };

  const draw = async (box) => {
    await load();
    const shown = new Set([...box.querySelectorAll("input:checked")].map((input) => input.value));
    for (const panel of box.querySelectorAll(".panel")) {
      const figure = dressed(JSON.parse(panel.querySelector("script").textContent), box);
      for (const trace of figure.data) trace.visible = shown.has(String(trace.meta));
      await Plotly.react(panel.querySelector(".plot"), figure.data, figure.layout, {
        displayModeBar: false,
        responsive: true,
      });
    }
    box.dataset.drawn = tone();
  };

  const boxes = [...document.querySelectorAll(".chart")];
  if (packed && boxes.length && "DecompressionStream" in window) {
    root.classList.add("charts");
    for (const twin of document.querySelectorAll(".twin")) twin.open = false;
    const near = new IntersectionObserver(
      (entries) => {
        for (const entry of entries) {
          if (!entry.isIntersecting) continue;
          near.unobserve(entry.target);
          draw(entry.target);
        }
      },
      { rootMargin: "600px" },
    );
    for (const box of boxes) {
      near.observe(box);
      box.addEventListener("change", () => box.dataset.drawn && draw(box));
    }
    dark.addEventListener("change", () => boxes.filter((box) => box.dataset.drawn).forEach(draw));
  }

  // paper unfolds nothing
  let opened = [];
  addEventListener("beforeprint", () => {
    opened = [...document.querySelectorAll("details:not([open])")];
    for (const one of opened) one.open = true;
  });
  addEventListener("afterprint", () => {
    for (const one of opened) one.open = false;
  });
})();
