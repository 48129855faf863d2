// Predict pictures in the browser by the model of the folder above. The pixels of the whole picture go into model.onnx, which
// resizes them as the run did. Beside this file lie two of npm's onnxruntime-web: see ORT, below.

const ORT = ["ort.wasm.bundle.min.mjs", "ort-wasm-simd-threaded.wasm"];
const MOST_PIXELS = 50e6;  // of one picture: what is computed from it takes up to ten times as many bytes
const $ = (id) => document.getElementById(id);
const state = { waiting: [], busy: false, asked: 0, answered: 0 };

function element(name, text = "", className = "") {
  const made = document.createElement(name);
  made.textContent = text;
  made.className = className;
  return made;
}

// ---- the model

async function start() {
  let ort;
  try {
    ort = await import(`./${ORT[0]}`);
    ort.env.wasm.wasmPaths = { wasm: new URL(ORT[1], import.meta.url).href };
    ort.env.wasm.numThreads = 1;
  } catch { return fail(`Put ${ORT.join(" and ")} of npm's onnxruntime-web beside this page.`); }
  try {
    state.manifest = await (await fetch("../manifest.json")).json();
    state.session = await ort.InferenceSession.create("../model.onnx", { executionProviders: ["wasm"] });
  } catch (error) { return fail(`The model cannot be loaded: ${error.message}`); }
  state.Tensor = ort.Tensor;
  introduce(state.manifest);
}

function fail(text) {
  $("lead").textContent = text;
  $("lead").classList.add("failed");
}

function introduce({ name, is_multi, preprocess }) {
  document.title = `${name}: classify pictures`;
  $("model").textContent = name;
  $("lead").textContent = is_multi ? "Which tags fit your pictures?" : "What do your pictures show?";
  $("limits").textContent = "Browsers decode some pictures to other pixels than the model was checked with: CMYK, transparent ones"
    + (preprocess.size && preprocess.scaled_decode ? ", and JPEGs several times as large as the network, which it knows decoded smaller." : ".");
  $("work").hidden = false;
}

async function pixelsOf(file) {
  const asStored = { premultiplyAlpha: "none", colorSpaceConversion: "none", imageOrientation: "from-image" };
  const bitmap = await createImageBitmap(file, asStored).catch(() => { throw new Error("This browser cannot read it as a picture."); });
  const { width, height } = bitmap;
  if (width * height > MOST_PIXELS) throw new Error(`It has ${width} × ${height} pixels, more than a browser can compute.`);
  const canvas = Object.assign(document.createElement("canvas"), { width, height });
  const context = canvas.getContext("2d", { willReadFrequently: true });
  context.drawImage(bitmap, 0, 0);
  bitmap.close();
  const rgba = context.getImageData(0, 0, width, height).data, rgb = new Uint8Array(3 * width * height);
  let opaque = true;
  for (let i = 0, k = 0; k < rgb.length; i += 4) {
    rgb[k++] = rgba[i]; rgb[k++] = rgba[i + 1]; rgb[k++] = rgba[i + 2];
    opaque &&= rgba[i + 3] === 255;
  }
  return { rgb, width, height, opaque };
}

async function predict(file) {
  const { rgb, width, height, opaque } = await pixelsOf(file), { classes, is_multi } = state.manifest;
  const pictures = new state.Tensor("uint8", rgb, [1, height, width, 3]);
  const { probabilities, labels, unlike } = await state.session.run({ pictures });
  const isLabel = (i) => Boolean(is_multi ? labels.data[i] : Number(labels.data[0]) === i);
  const found = classes.map((name, i) => ({ name, probability: probabilities.data[i], isLabel: isLabel(i) }));
  return { found, opaque, unlike: unlike ? unlike.data[0] : 0 };
}

// ---- pictures in

function take(files) {
  for (const file of files) {
    const item = element("li"), picture = element("img");
    picture.alt = file.name || "Pasted picture";
    picture.src = URL.createObjectURL(file);
    item.append(picture, element("div", "Waiting …", "quiet"));
    $("answers").prepend(item);
    state.waiting.push({ file, item });
    state.asked += 1;
  }
  say();
  if (!state.busy) work();
}

async function work() {
  state.busy = true;
  while (state.waiting.length) {
    const { file, item } = state.waiting.shift(), place = element("div");
    try { show(place, await predict(file)); }
    catch (error) { place.append(element("p", error.message, "failed")); }
    item.lastElementChild.replaceWith(place);
    state.answered += 1;
    say();
  }
  state.busy = false;
}

function say() {
  $("status").textContent = state.asked ? `${state.answered} of ${state.asked} picture${state.asked === 1 ? "" : "s"} answered` : "";
}

// ---- answers out

const percent = (p) => (p > 0 && p < 0.005 ? "< 1 %" : p < 1 && p >= 0.995 ? "> 99 %" : `${Math.round(100 * p)} %`);

function show(place, { found, opaque, unlike }) {
  if (unlike > 1) place.append(element("p", "Unlike the training pictures: its labels may mean nothing here.", "care"));
  if (!opaque) place.append(element("p", "It is transparent in places; the model was checked with the colours below.", "care"));
  const list = element("ul"), sorted = [...found].sort((a, b) => b.probability - a.probability);
  for (const { name, probability } of sorted.filter((c) => c.isLabel)) {
    const row = element("li"), line = element("p");
    line.append(element("strong", name), percent(probability));
    row.append(line, element("p", reliability(name), "quiet"));
    list.append(row);
  }
  if (!list.children.length) list.append(element("li", "No tag fits this picture."));
  place.append(list, allClasses(sorted));
}

function reliability(name) {
  const precision = (state.manifest.class_quality || []).find((q) => q.class === name)?.precision;
  if (precision?.value == null) return "How often this label is right was not measured.";
  const { value, low, high } = precision, round = (p) => Math.round(100 * p);
  const interval = low === null ? "" : ` (${round(low)} to ${round(high)})`;
  return `When the model says ${name}, it is right ${round(value)} % of the time${interval}.`;
}

function allClasses(sorted) {
  const details = element("details"), table = element("table");
  for (const { name, probability } of sorted) {
    const row = table.insertRow(), head = element("th", name);
    head.scope = "row";
    row.dataset.probability = probability;
    row.append(head, element("td", `${(100 * probability).toFixed(1)} %`));
  }
  details.append(element("summary", "All probabilities"), table);
  return details;
}

$("choose").addEventListener("click", () => $("files").click());
$("files").addEventListener("change", (event) => { take([...event.target.files]); event.target.value = ""; });
document.addEventListener("dragover", (event) => event.preventDefault());
document.addEventListener("drop", (event) => { event.preventDefault(); if (state.Tensor) take(event.dataTransfer.files); });
document.addEventListener("paste", (event) => { if (state.Tensor) take(event.clipboardData.files); });
start();
