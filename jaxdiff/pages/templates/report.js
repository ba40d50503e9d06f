"use strict";

// Slider: the left picture lies over the right one and is cut at the divider.
for (const box of document.querySelectorAll(".compare")) {
  const stage = box.querySelector(".stage"), split = box.querySelector(".split"), size = box.querySelector(".size");
  const images = ["left", "right"].map((side) => [stage.querySelector("img." + side), box.querySelector("select." + side)]);
  const move = () => {
    stage.style.setProperty("--at", split.value + "%");
    split.setAttribute("aria-valuetext", Math.round(split.value) + " %");
  };
  const choose = () => {
    let width = 1, height = 1;
    for (const [image, chooser] of images) {
      const source = document.getElementById(chooser.value);
      image.src = source.src;
      image.alt = source.alt;
      if (source.width * source.height === 0) continue;
      const [w, h] = [Number(source.getAttribute("width")), Number(source.getAttribute("height"))];
      if (w * h > width * height) [width, height] = [w, h];
    }
    stage.style.aspectRatio = width + " / " + height;
    stage.style.width = Number(size.value) ? width * size.value + "px" : "min(100%, calc(85vh * " + width / height + "))";
  };
  const drag = (event) => {
    const place = stage.getBoundingClientRect();
    split.value = (100 * (event.clientX - place.left)) / place.width;
    move();
  };
  split.addEventListener("input", move);
  for (const chooser of [size, ...images.map((pair) => pair[1])]) chooser.addEventListener("change", choose);
  stage.addEventListener("pointerdown", (event) => {
    event.preventDefault(); // else the browser drags the picture away
    stage.setPointerCapture(event.pointerId);
    drag(event);
  });
  stage.addEventListener("pointermove", (event) => {
    if (event.buttons) drag(event);
  });
  box.hidden = false;
  choose();
  move();
}

const pixels = document.getElementById("single-pixels");
if (pixels) pixels.addEventListener("change", () => document.documentElement.classList.toggle("single-pixels", pixels.checked));

// Enlarged pictures: arrows go on, + and − scale, Escape closes.
const lightbox = document.getElementById("lightbox");
if (lightbox) {
  const enlarged = lightbox.querySelector("img"), frame = lightbox.querySelector(".frame");
  const all = [...document.querySelectorAll(".enlarge img")];
  let place = 0, scale = 1;
  const draw = () => {
    const shown = all[place], [w, h] = [Number(shown.getAttribute("width")), Number(shown.getAttribute("height"))];
    const fit = Math.min((frame.clientWidth - 4) / w, (frame.clientHeight - 4) / h);
    enlarged.src = shown.src;
    enlarged.alt = shown.alt;
    enlarged.style.width = Math.max(1, Math.floor(w * fit * scale)) + "px";
    enlarged.style.height = Math.max(1, Math.floor(h * fit * scale)) + "px";
    const caption = shown.closest("figure").querySelector("figcaption");
    lightbox.querySelector(".caption").textContent = [...caption.childNodes].map((node) => node.textContent).join(" · ");
  };
  const go = (by) => {
    place = (place + by + all.length) % all.length;
    draw();
  };
  const zoom = (by) => {
    scale = Math.min(32, Math.max(0.25, scale * by));
    draw();
  };
  const actions = {
    previous: () => go(-1), next: () => go(1), smaller: () => zoom(1 / 1.5), larger: () => zoom(1.5), close: () => lightbox.close(),
  };
  const keys = { ArrowLeft: "previous", ArrowRight: "next", "-": "smaller", "+": "larger", "=": "larger" };
  all.forEach((image, i) => image.parentElement.addEventListener("click", () => {
    [place, scale] = [i, 1];
    lightbox.showModal();
    draw();
  }));
  lightbox.addEventListener("click", (event) => {
    const button = event.target.closest("button");
    if (button) actions[button.dataset.do]();
    else if (event.target === lightbox) lightbox.close();
  });
  lightbox.addEventListener("keydown", (event) => {
    if (!(event.key in keys)) return;
    event.preventDefault();
    actions[keys[event.key]]();
  });
  addEventListener("resize", () => lightbox.open && draw());
}

// Tables: numbers by value, texts by letter; cells without a number come last both ways.
const order = new Intl.Collator(undefined, { numeric: true });
for (const button of document.querySelectorAll("th button")) {
  button.addEventListener("click", () => {
    const head = button.parentElement, body = head.closest("table").tBodies[0], column = head.cellIndex;
    const rising = head.getAttribute("aria-sort") !== "ascending", numeric = head.classList.contains("number");
    for (const other of head.parentElement.cells) other.removeAttribute("aria-sort");
    head.setAttribute("aria-sort", rising ? "ascending" : "descending");
    const compare = (a, b) => {
      const [left, right] = [a.cells[column], b.cells[column]];
      if (!numeric) return (rising ? 1 : -1) * order.compare(left.textContent, right.textContent);
      const [x, y] = [left.dataset.value, right.dataset.value];
      if (x === undefined || y === undefined) return (x === undefined) - (y === undefined);
      return (rising ? 1 : -1) * (x - y);
    };
    body.append(...[...body.rows].sort(compare));
  });
}

// Plots take their colours from the page, and change with it.
const plots = document.querySelectorAll(".plot");
if (plots.length) {
  const scheme = matchMedia("(prefers-color-scheme: dark)");
  const ways = ["#2f7ed8", "#e07b39", "#3a9d5d", "#c94f7c", "#8d6cc9", "#a08a2d", "#2aa3a3", "#c0504d", "#7f8c9b", "#5566bb"];
  const finger = matchMedia("(pointer: coarse)").matches;
  const paint = () => {
    const colours = getComputedStyle(document.documentElement);
    const [text, line] = ["--text", "--line"].map((name) => colours.getPropertyValue(name).trim());
    for (const plot of plots) {
      const { data, layout } = JSON.parse(plot.dataset.figure);
      const axis = { gridcolor: line, linecolor: line, zeroline: false, automargin: true };
      Plotly.react(plot, data, {
        ...layout,
        xaxis: { ...axis, ...layout.xaxis },
        yaxis: { ...axis, ...layout.yaxis },
        showlegend: data.length > 1,
        legend: { orientation: "h", x: 0, y: 1.02, yanchor: "bottom" },
        margin: { l: 55, r: 15, t: 25, b: 50 },
        paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)",
        font: { color: text, family: "system-ui, sans-serif", size: 13 }, colorway: ways, hovermode: "closest",
        dragmode: finger ? false : "zoom", // a finger scrolls the page
      }, { responsive: true, displaylogo: false, displayModeBar: finger ? false : "hover", modeBarButtonsToRemove: ["select2d", "lasso2d", "autoScale2d"] });
    }
  };
  scheme.addEventListener("change", paint);
  paint();
}
