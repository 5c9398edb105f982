// The page: the picture, the factors that it is chosen by, and for each model its sliders, its pad and its codes.

const about = JSON.parse(document.getElementById("about").textContent);
const [channels, height, width] = about.shape, area = height * width, size = channels * area;
document.documentElement.style.setProperty("--ratio", width / height); // by which tall pictures are kept low
const main = document.querySelector("main"), problem = document.getElementById("problem"), panels = [];

async function bytesOf(element) {
  const text = atob(element.textContent.trim()), bytes = new Uint8Array(text.length);
  for (let n = 0; n < text.length; n++) bytes[n] = text.charCodeAt(n);
  element.remove();
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
  return new Uint8Array(await new Response(stream).arrayBuffer());
}

function make(kind, parent, properties = {}) {
  const element = Object.assign(document.createElement(kind), properties);
  parent.append(element);
  return element;
}

function draw(canvas, pixels) {
  if (canvas.width !== width || canvas.height !== height) Object.assign(canvas, { width, height });
  const image = new ImageData(width, height);
  for (let p = 0; p < area; p++) {
    for (let c = 0; c < 3; c++) image.data[4 * p + c] = Math.round(255 * pixels[(channels === 3 ? c : 0) * area + p]);
    image.data[4 * p + 3] = 255;
  }
  canvas.getContext("2d").putImageData(image, 0, 0);
}

const digits = (value) => value >= 0.995 ? value.toFixed(1) : value.toPrecision(value < 0.1 ? 1 : 2);
const signed = (value) => (value < -0.005 ? "−" : "") + (Math.abs(value) < 1000 ? Math.abs(value).toFixed(2) : Math.abs(value).toExponential(1));
const called = (unit) => `${unit.unit}: ${unit.name}`;
const valueName = (factor, value) => factor.names[value] ?? String(Number.isInteger(value) ? value : Number(value.toPrecision(3)));

// A canvas as large as one on the page, and as sharp as the screen is: its context, in the page's pixels, and its size.
function prepared(canvas, shown = canvas) {
  const scale = window.devicePixelRatio, across = shown.clientWidth, down = shown.clientHeight;
  Object.assign(canvas, { width: across * scale, height: down * scale });
  const context = canvas.getContext("2d");
  context.scale(scale, scale);
  return [context, across, down];
}

function axes(context, across, down, reach) {
  const style = getComputedStyle(document.documentElement);
  context.font = "11px system-ui, sans-serif";
  context.fillStyle = style.getPropertyValue("--quiet");
  context.strokeStyle = style.getPropertyValue("--line");
  for (let value = -Math.floor(reach); value <= reach; value++) {
    const x = (value + reach) / (2 * reach) * across, y = down - (value + reach) / (2 * reach) * down;
    context.lineWidth = value ? 0.5 : 1.5;
    context.beginPath();
    context.moveTo(x, 0);
    context.lineTo(x, down);
    context.moveTo(0, y);
    context.lineTo(across, y);
    context.stroke();
    if (value && Math.abs(value) < reach) {
      context.fillText(value < 0 ? `−${-value}` : value, x + 3, down - 4);
      context.fillText(value < 0 ? `−${-value}` : value, 4, y - 3);
    }
  }
}

function ring(context, x, y) {
  const style = getComputedStyle(document.documentElement);
  for (const [lineWidth, colour] of [[5, style.getPropertyValue("--page")], [2.5, style.getPropertyValue("--ink")]]) {
    Object.assign(context, { lineWidth, strokeStyle: colour });
    context.beginPath();
    context.arc(x, y, 7, 0, 2 * Math.PI);
    context.stroke();
  }
}

class Panel {
  constructor(about, bytes, points) {
    const count = about.units.length, codes = 4 * points * count;
    Object.assign(this, about, { points, code: new Float32Array(count), posterior: null, asked: false });
    this.codes = new Float32Array(bytes.slice(0, codes).buffer);
    this.rest = bytes.subarray(codes);
    this.root = document.getElementById("panel").content.firstElementChild.cloneNode(true);
    this.find = (selector) => this.root.querySelector(selector);
    if (!this.refused) {
      this.weights = unpack(this.tensors, this.bits, this.rest);
      this.rest = null;
    }
  }

  // The posterior of a picture: its means and deviations, (D,) each.
  encode(pixels) {
    const found = run(this.encoder, this.weights, pixels), n = this.code.length;
    return { mean: found.slice(0, n), sigma: found.slice(n).map((v) => Math.exp(Math.min(Math.max(v, -20), 20) / 2)) };
  }

  // The picture of a code; where the model can't run here, the nearest frame of the unit that was moved.
  decode(code) {
    if (!this.refused) return run(this.decoder, this.weights, code);
    const frame = Math.round((code[this.moved] + this.reach) / (2 * this.reach) * (this.frames - 1));
    const first = (this.moved * this.frames + Math.min(Math.max(frame, 0), this.frames - 1)) * size;
    return Float32Array.from(this.rest.subarray(first, first + size), (v) => v / 255);
  }

  set(code, posterior = null) {
    this.code = Float32Array.from(code);
    this.posterior = posterior;
    this.refresh();
  }

  inside(value) {
    return Math.min(Math.max(value, -this.reach), this.reach);
  }

  // Where a value lies on its track, from 0 to 1.
  place(value) {
    return (this.inside(value) + this.reach) / (2 * this.reach);
  }

  move(unit, value) {
    if (this.refused && unit !== this.moved) this.code = Float32Array.from(this.start);
    this.moved = unit;
    this.code[unit] = this.inside(value);
    this.refresh();
  }

  refresh() { // once for each picture of the screen
    if (this.asked) return;
    this.asked = true;
    requestAnimationFrame(() => { this.asked = false; this.render(); });
  }

  replot() {
    this.plot = null;
    this.refresh();
  }

  render() {
    draw(this.find(".decoded canvas"), this.decode(this.code));
    for (const row of this.rows) {
      const value = this.code[row.unit];
      if (document.activeElement !== row.input || Math.abs(row.input.value - value) > 1e-3) row.input.value = value;
      row.output.textContent = signed(value);
      row.band.hidden = !this.posterior;
      if (this.posterior) {
        const mean = this.posterior.mean[row.unit], sigma = this.posterior.sigma[row.unit];
        const [left, right] = [this.place(mean - 2 * sigma), this.place(mean + 2 * sigma)];
        row.band.style.left = `calc(10px + (100% - 20px) * ${(left + right) / 2})`;
        row.band.style.width = `calc((100% - 20px) * ${right - left})`;
      }
    }
    if (!this.refused) {
      const beyond = this.units.filter(({ unit }) => Math.abs(this.code[unit]) > this.reach).map(called).join(", ");
      this.find(".remark").textContent = `The band is the picture's code ± 2σ.${beyond && ` Outside the codes of the data: ${beyond}.`}`;
    }
    this.drawPad();
    this.drawScatter();
  }

  build() {
    this.find("h2").textContent = this.title;
    if (this.refused) this.find(".remark").textContent = `The model can't run here: ${this.refused}. These are frames made before, one unit at a time.`;
    this.find(".precision").textContent = this.refused ? "" :
      `The weights are rounded to ${this.bits} bits, which moved no pixel of 32 pictures by more than ${this.error.toPrecision(2)} (black is 0, white 1).`;
    const idle = this.find("details"), names = this.units.filter((unit) => !unit.active);
    this.find("summary").textContent = `${names.length} idle unit${names.length === 1 ? "" : "s"}`;
    idle.hidden = !names.length;
    idle.open = names.length === this.units.length;
    this.rows = this.units.map((unit) => {
      const root = make("div", this.root, { className: "unit" }), id = `unit-${panels.indexOf(this)}-${unit.unit}`;
      const label = make("label", root, { htmlFor: id });
      const title = make("b", label, { textContent: unit.name });
      make("small", label, { textContent: `σ ${digits(unit.sigma)} · KL ${unit.kl.toFixed(2)} · unit ${unit.unit}` });
      buildName(this, unit, label, root);
      const track = make("div", root, { className: "track" }), band = make("div", track, { className: "band", hidden: true });
      const input = make("input", track, { type: "range", id, min: -this.reach, max: this.reach, step: "any", value: 0 });
      input.addEventListener("input", () => this.move(unit.unit, Number(input.value)));
      if (unit.active) {
        idle.before(root);
        this.buildEnds(make("div", root, { className: "ends" }), unit.unit);
      } else idle.append(root);
      return { unit: unit.unit, title, input, band, output: make("output", root, { htmlFor: id }) };
    });
    this.axes = [...this.root.querySelectorAll(".pad select, .scatter select")].slice(0, 4);
    for (const [axis, select] of this.axes.entries()) {
      for (const unit of this.units) make("option", select, { value: unit.unit, textContent: called(unit) });
      select.selectedIndex = Math.min(axis % 2, this.units.length - 1);
      select.addEventListener("change", () => this.replot());
    }
    const pad = this.find(".pad canvas");
    const drag = (event) => {
      const box = pad.getBoundingClientRect(), [across, up] = this.chosen(".pad");
      this.move(across, ((event.clientX - box.left) / box.width * 2 - 1) * this.reach);
      this.move(up, (1 - (event.clientY - box.top) / box.height * 2) * this.reach);
    };
    pad.addEventListener("pointerdown", (event) => { pad.setPointerCapture(event.pointerId); drag(event); });
    pad.addEventListener("pointermove", (event) => { if (event.buttons) drag(event); });
    pad.addEventListener("keydown", (event) => {
      const [across, up] = this.chosen(".pad"), step = this.reach / (event.shiftKey ? 12 : 60);
      const moves = { ArrowLeft: [across, -step], ArrowRight: [across, step], ArrowDown: [up, -step], ArrowUp: [up, step] };
      if (!moves[event.key]) return;
      event.preventDefault();
      const [unit, by] = moves[event.key];
      this.move(unit, this.code[unit] + by);
    });
    this.find(".save").addEventListener("click", () => save(this));
    this.find(".names button").addEventListener("click", () => download(new Blob([named(this.units)], { type: "application/json" }), "units.json"));
    this.buildScatter();
    if (this.refused) {
      this.find(".pad").hidden = true;
      this.code = Float32Array.from(this.start);
      this.moved = this.units[0].unit;
    }
  }

  // The pictures of the data with the lowest and the highest codes of a unit.
  buildEnds(parent, unit) {
    const { code: { length: units }, codes } = this, shown = Math.min(8, this.points >> 1);
    const order = Array.from({ length: this.points }, (_, p) => p).sort((a, b) => codes[a * units + unit] - codes[b * units + unit]);
    for (const [at, part] of [["lowest", order.slice(0, shown)], ["highest", order.slice(this.points - shown)]]) {
      const row = make("div", parent, { role: "img", ariaLabel: `Pictures with the ${at} codes` });
      make("small", row, { textContent: at });
      for (const p of part) {
        const n = about.pictures.points[p], canvas = make("canvas", row, { className: "picture" });
        draw(canvas, picture(n));
        canvas.addEventListener("click", () => pick(n));
      }
    }
  }

  chosen(section) {
    return [...this.root.querySelectorAll(`${section} select`)].map((select) => Number(select.value));
  }

  drawPad() {
    const [context, across, down] = prepared(this.find(".pad canvas")), [x, y] = this.chosen(".pad"), { code, reach } = this;
    if (!across) return;
    axes(context, across, down, reach);
    ring(context, this.place(code[x]) * across, (1 - this.place(code[y])) * down);
  }

  buildScatter() {
    const colours = this.root.querySelectorAll(".scatter select")[2], tip = this.find(".tip"), plane = this.find(".plane > canvas");
    about.factors.forEach((factor, k) => make("option", colours, { value: k, textContent: factor.label }));
    colours.parentElement.hidden = !about.factors.length;
    colours.addEventListener("change", () => this.replot());
    const under = (event) => {
      const box = plane.getBoundingClientRect(), x = event.clientX - box.left, y = event.clientY - box.top;
      let nearest = -1, least = 14 ** 2;
      this.places.forEach(([px, py], n) => {
        const far = (px - x) ** 2 + (py - y) ** 2;
        if (far < least) [nearest, least] = [n, far];
      });
      tip.hidden = nearest < 0;
      if (nearest < 0) return -1;
      draw(tip.firstElementChild, picture(about.pictures.points[nearest]));
      tip.lastElementChild.textContent = about.factors.map((f) => `${f.label} ${valueName(f, f.values[nearest])}`).join(", ");
      tip.style.left = `${Math.min(x + 14, box.width - tip.offsetWidth)}px`;
      tip.style.top = `${y + 14 + tip.offsetHeight > box.height ? Math.max(y - 14 - tip.offsetHeight, 0) : y + 14}px`;
      return nearest;
    };
    plane.addEventListener("pointermove", under);
    plane.addEventListener("pointerleave", () => { tip.hidden = true; });
    plane.addEventListener("click", (event) => { const n = under(event); if (n >= 0) pick(about.pictures.points[n]); });
  }

  drawScatter() {
    const shown = this.find(".plane > canvas"), [context, across, down] = prepared(shown), [x, y] = this.chosen(".scatter");
    if (!across) return;
    if (!this.plot) this.drawPoints(shown);
    context.drawImage(this.plot, 0, 0, across, down);
    ring(context, this.place(this.code[x]) * across, (1 - this.place(this.code[y])) * down);
  }

  drawPoints(shown) { // once, as only the ring moves
    this.plot = document.createElement("canvas");
    const [context, across, down] = prepared(this.plot, shown), [x, y, k] = this.chosen(".scatter"), { codes, code: { length } } = this;
    const factor = about.factors[k], accent = `rgb(${getComputedStyle(document.documentElement).getPropertyValue("--accent")})`;
    const hue = factor && hues(factor);
    axes(context, across, down, this.reach);
    this.places = Array.from({ length: this.points }, (_, p) => [this.place(codes[p * length + x]) * across, (1 - this.place(codes[p * length + y])) * down]);
    this.places.forEach(([left, top], p) => {
      context.fillStyle = hue ? hue(factor.values[p]) : accent;
      context.beginPath();
      context.arc(left, top, 3, 0, 2 * Math.PI);
      context.fill();
    });
    const legend = this.find(".legend");
    legend.replaceChildren();
    if (!factor) return;
    const values = [...new Set(factor.values)].sort((a, b) => a - b), named = (v) => valueName(factor, v);
    if (factor.category && values.length <= 12) {
      for (const value of values) {
        const item = make("li", legend);
        make("i", item).style.background = hue(value);
        item.append(named(value));
      }
      return;
    }
    const item = make("li", legend), ramp = [0, 1, 2, 3, 4, 5, 6].map((s) => hue(values[0] + (values.at(-1) - values[0]) * s / 6));
    item.append(`${named(values[0])} `);
    make("i", item, { className: "ramp" }).style.background = `linear-gradient(to right, ${ramp})`;
    item.append(named(values.at(-1)));
  }
}

// The colour of a factor's value: round for an angle, far apart for a category, else from blue to yellow.
function hues(factor) {
  const least = Math.min(...factor.values), span = Math.max(...factor.values) - least || 1;
  if (factor.angle) return (value) => `hsl(${360 * (value - least) / span} 65% 55%)`;
  if (factor.category) return (value) => `hsl(${210 + 137.5 * value} 65% 55%)`;
  return (value) => `hsl(${250 - 205 * (value - least) / span} 70% 55%)`;
}

let bytes, current = null; // the pictures' bytes; the pixels of the one that is shown
const original = document.querySelector(".original canvas"), factors = document.querySelector(".factors");

function picture(n) {
  const { packed } = about.pictures, stride = packed ? Math.ceil(size / 8) : size;
  return Float32Array.from({ length: size }, (_, p) =>
    packed ? bytes[n * stride + (p >> 3)] >> (7 - (p & 7)) & 1 : bytes[n * stride + p] / 255);
}

// Encode pixels (C, H, W) in [0, 1] with every model; n is their number, where they are a picture of the data.
function show(pixels, n = -1) {
  current = pixels;
  factors.classList.toggle("stale", Boolean(grid) && n < 0); // the thumbnails vary the last one's factors
  choose(n);
  draw(original, pixels);
  other = null; // what is kept is blended with this picture from now on
  document.getElementById("blend").value = 1;
  for (const panel of panels) {
    if (panel.refused) continue;
    const posterior = panel.encode(pixels);
    panel.set(posterior.mean, posterior);
  }
}

const pick = (n) => show(picture(n), n);

const grid = about.factors.length && about.factors.every((factor) => factor.kept.length);
let thumbnails = []; // of each: its canvas, its radio button and the picture that it stands for
let choose = (n) => { for (const { input, stands } of thumbnails) input.checked = stands() === n; };

function thumbnail(parent, name, label, stands) {
  const root = make("label", parent, { className: "choice", title: label });
  const input = make("input", root, { type: "radio", name, ariaLabel: label }), canvas = make("canvas", root, { className: "picture" });
  input.addEventListener("change", () => pick(stands()));
  thumbnails.push({ canvas, input, stands });
}

function buildFactors() {
  make("h2", factors, { textContent: grid ? "One factor at a time" : "Pictures of the data" });
  if (!grid) {
    const row = make("div", factors, { className: "choices" });
    for (let n = 0; n < Math.min(about.pictures.count, 60); n++) thumbnail(row, "picture", `picture ${n + 1}`, () => n);
    for (const { canvas, stands } of thumbnails) draw(canvas, picture(stands()));
    return;
  }
  const place = about.factors.map(() => 0);
  const index = (k, value) => about.factors.reduce((n, factor, f) => n * factor.kept.length + (f === k ? value : place[f]), 0);
  about.factors.forEach((factor, k) => {
    const set = make("fieldset", factors);
    make("span", make("legend", set), { textContent: factor.label });
    const row = make("div", set, { className: "choices" });
    factor.kept.forEach((value, v) => thumbnail(row, `factor-${k}`, `${factor.label} ${valueName(factor, value)}`, () => index(k, v)));
  });
  choose = (n) => {
    if (n < 0) return;
    for (let k = about.factors.length - 1, rest = n; k >= 0; k--) {
      place[k] = rest % about.factors[k].kept.length;
      rest = Math.floor(rest / about.factors[k].kept.length);
    }
    for (const { canvas, input, stands } of thumbnails) {
      draw(canvas, picture(stands()));
      input.checked = stands() === n;
    }
  };
}

// The pen: two brushes' colours for gray, any for colour. It sets the pixels near the line that it moved along.
function buildPen() {
  const pen = document.getElementById("pen");
  const input = channels === 3 ? make("input", pen, { type: "color", value: "#ffffff", ariaLabel: "Pen" }) : make("select", pen, { ariaLabel: "Pen" });
  if (channels !== 3) for (const [value, textContent] of [[1, "white pen"], [0, "black pen"]]) make("option", input, { value, textContent });
  const colour = (c) => channels === 3 ? parseInt(input.value.slice(1 + 2 * c, 3 + 2 * c), 16) / 255 : Number(input.value);
  let last = null, asked = false;
  const stroke = (event) => {
    const box = original.getBoundingClientRect(), radius = width / 24;
    const [x, y] = [(event.clientX - box.left) / box.width * width - 0.5, (event.clientY - box.top) / box.height * height - 0.5];
    const [fromX, fromY] = last ?? [x, y], dx = x - fromX, dy = y - fromY;
    current = Float32Array.from(current ?? new Float32Array(size));
    for (let row = 0; row < height; row++) for (let column = 0; column < width; column++) {
      const along = Math.min(Math.max(((column - fromX) * dx + (row - fromY) * dy) / (dx * dx + dy * dy || 1), 0), 1);
      if (Math.hypot(column - fromX - along * dx, row - fromY - along * dy) > radius) continue;
      for (let c = 0; c < channels; c++) current[c * area + row * width + column] = colour(c);
    }
    last = [x, y];
    if (asked) return;
    asked = true;
    requestAnimationFrame(() => { asked = false; show(current); });
  };
  original.addEventListener("pointerdown", (event) => { original.setPointerCapture(event.pointerId); last = null; stroke(event); });
  original.addEventListener("pointermove", (event) => { if (event.buttons && last) stroke(event); });
  original.addEventListener("pointerup", () => { last = null; });
  document.getElementById("clear").addEventListener("click", () => show(new Float32Array(size)));
}

// A person's picture, cropped to the images' shape; white where it is transparent, as `data=folder` takes it.
async function open(file) {
  const image = await createImageBitmap(file).catch(() => null);
  problem.hidden = image !== null;
  problem.textContent = image ? "" : `${file.name} can't be read as a picture.`;
  if (!image) return;
  const canvas = Object.assign(document.createElement("canvas"), { width, height }), context = canvas.getContext("2d");
  const scale = Math.max(width / image.width, height / image.height), [w, h] = [image.width * scale, image.height * scale];
  Object.assign(context, { fillStyle: "white", imageSmoothingQuality: "high" });
  context.fillRect(0, 0, width, height);
  context.drawImage(image, (width - w) / 2, (height - h) / 2, w, h);
  const { data } = context.getImageData(0, 0, width, height), pixels = new Float32Array(size);
  for (let p = 0; p < area; p++) {
    const [r, g, b] = data.subarray(4 * p, 4 * p + 3);
    if (channels === 3) [r, g, b].forEach((v, c) => { pixels[c * area + p] = v / 255; });
    else pixels[p] = (0.299 * r + 0.587 * g + 0.114 * b) / 255;
  }
  show(pixels);
}

// The codes that a picture was left with, one a model, from which those of the next picture are blended.
let kept = null, other = null;

function blend(share) {
  panels.forEach((panel, n) => {
    if (!panel.refused) panel.set(kept[n].map((value, unit) => value + share * (other[n][unit] - value)));
  });
}

function buildBlend(click) {
  const range = document.getElementById("blend");
  click("keep", () => {
    kept = panels.map((panel) => Float32Array.from(panel.code));
    other = null;
    range.value = 1;
    range.parentElement.hidden = false;
  });
  range.addEventListener("input", () => {
    other ??= panels.map((panel) => Float32Array.from(panel.code));
    blend(Number(range.value));
  });
}

// Saves what a panel has decoded, four times as large.
function save(panel) {
  const canvas = document.createElement("canvas"), shown = panel.find(".decoded canvas");
  Object.assign(canvas, { width: 4 * width, height: 4 * height });
  const context = canvas.getContext("2d");
  context.imageSmoothingEnabled = false;
  context.drawImage(shown, 0, 0, canvas.width, canvas.height);
  canvas.toBlob((blob) => download(blob, "decoded.png"));
}

function buildTools() {
  const click = (id, act) => document.getElementById(id).addEventListener("click", act);
  buildBlend(click);
  click("any", () => pick(Math.floor(Math.random() * about.pictures.count)));
  click("reset", () => panels.forEach((panel) => panel.set(panel.refused ? panel.start : panel.code.map(() => 0))));
  click("prior", () => panels.filter((panel) => !panel.refused).forEach((panel) => panel.set(panel.code.map(
    () => Math.sqrt(-2 * Math.log(1 - Math.random())) * Math.cos(2 * Math.PI * Math.random())))));
  document.getElementById("file").addEventListener("change", (event) => { if (event.target.files[0]) open(event.target.files[0]); });
  document.addEventListener("dragover", (event) => event.preventDefault());
  document.addEventListener("drop", (event) => {
    event.preventDefault();
    if (event.dataTransfer.files[0]) open(event.dataTransfer.files[0]);
  });
}

async function begin() {
  problem.textContent = "Unpacking the model…";
  const [pictures, ...models] = await Promise.all([...document.querySelectorAll(".blob")].map(bytesOf));
  bytes = pictures;
  about.models.forEach((model, n) => panels.push(new Panel(model, models[n], about.pictures.points.length)));
  main.hidden = false;
  problem.hidden = true;
  for (const panel of panels) {
    document.querySelector(".panels").append(panel.root);
    panel.build();
  }
  buildFactors();
  buildPen();
  buildTools();
  if (panels.every((panel) => panel.refused)) for (const unused of document.querySelectorAll(".original, .tools, .factors")) unused.hidden = true;
  pick(about.pictures.points[about.pictures.points.length >> 1]);
  const again = () => panels.forEach((panel) => panel.replot());
  again();
  window.addEventListener("resize", again);
  window.matchMedia("(prefers-color-scheme: dark)").addEventListener("change", again);
  window.explorer = { panels, picture, show, pick, current: () => current };
}

begin().catch((error) => {
  problem.hidden = false;
  problem.textContent = `This browser can't show the page: ${error.message}. Chromium 113, Firefox 113 and Safari 16.4 or newer can.`;
  throw error;
});
