// A canvas over a picture. Its value is JSON: {picture, size: [height, width]} with a frame [top, left, side], which is moved
// by the mouse, or with strokes [{width, points: [[x, y], ...]}], which are painted. "settled" tells the page.
const canvas = element.querySelector("canvas"), slider = element.querySelector("input"), pen = canvas.getContext("2d");
const picture = new Image();
let value = {}, stroke = null, grip = null;

function load() {
  value = JSON.parse(props.value || "{}");
  element.querySelector(".jd-canvas").hidden = !value.picture;
  if (!value.picture) return;
  const [height, width] = value.size;
  canvas.width = 640;
  canvas.height = Math.round((640 * height) / width);
  if (value.frame) slider.value = (100 * value.frame[2]) / Math.min(height, width);
  picture.src = value.picture;
}

function draw() {
  pen.drawImage(picture, 0, 0, canvas.width, canvas.height);
  if (value.frame) {
    const [top, left, side] = value.frame.map((x) => (x * canvas.width) / value.size[1]);
    pen.fillStyle = "rgba(0, 0, 0, 0.55)";
    pen.beginPath();
    pen.rect(0, 0, canvas.width, canvas.height);
    pen.rect(left, top, side, side);
    pen.fill("evenodd");
    pen.strokeStyle = "#fff";
    pen.lineWidth = 3;
    pen.strokeRect(left + 1.5, top + 1.5, side - 3, side - 3);
  }
  pen.lineCap = pen.lineJoin = "round";
  pen.strokeStyle = "#e8590c";
  for (const { width, points } of [...(value.strokes || []), ...(stroke ? [stroke] : [])]) {
    pen.lineWidth = width * canvas.width;
    pen.beginPath();
    const [[x0, y0]] = points;
    pen.moveTo(x0 * canvas.width, y0 * canvas.height + 0.01); // so that a single point is a dot
    points.forEach(([x, y]) => pen.lineTo(x * canvas.width, y * canvas.height));
    pen.stroke();
  }
}

function place(event) {
  const box = canvas.getBoundingClientRect();
  return [(event.clientX - box.left) / box.width, (event.clientY - box.top) / box.height];
}

function settle() {
  props.value = JSON.stringify(value);
  trigger("settled");
}

function move(top, left, side) {
  const [height, width] = value.size;
  const fit = (x, most) => Math.round(Math.min(Math.max(x, 0), most));
  value.frame = [fit(top, height - side), fit(left, width - side), side];
  draw();
}

picture.addEventListener("load", draw);
canvas.addEventListener("pointerdown", (event) => {
  if (!value.picture) return;
  event.preventDefault();
  canvas.setPointerCapture(event.pointerId);
  const [x, y] = place(event);
  if (value.frame) {
    const [top, left, side] = value.frame, [height, width] = value.size;
    const inside = x * width >= left && x * width <= left + side && y * height >= top && y * height <= top + side;
    grip = inside ? [x * width - left, y * height - top] : [side / 2, side / 2];
    move(y * height - grip[1], x * width - grip[0], side);
  } else {
    stroke = { width: slider.value / 100, points: [[x, y]] };
    draw();
  }
});
canvas.addEventListener("pointermove", (event) => {
  const [x, y] = place(event);
  if (grip) move(y * value.size[0] - grip[1], x * value.size[1] - grip[0], value.frame[2]);
  if (stroke) {
    stroke.points.push([x, y]);
    draw();
  }
});
for (const end of ["pointerup", "pointercancel"])
  canvas.addEventListener(end, () => {
    if (!grip && !stroke) return;
    if (stroke) value.strokes.push(stroke);
    grip = stroke = null;
    settle();
  });
slider.addEventListener("input", () => {
  if (!value.frame) return;
  const [top, left, side] = value.frame;
  const wanted = Math.max(1, Math.round((slider.value / 100) * Math.min(...value.size)));
  move(top + (side - wanted) / 2, left + (side - wanted) / 2, wanted);
});
slider.addEventListener("change", () => value.frame && settle());
for (const button of element.querySelectorAll("button"))
  button.addEventListener("click", () => {
    if (!value.strokes) return;
    value.strokes = button.name === "undo" ? value.strokes.slice(0, -1) : [];
    draw();
    settle();
  });
watch("value", load);
load();
