// The page: photographs are sent to /detect one by one, and their detections are drawn, filtered and listed.

import { drawDetections } from "./drawing.js";

const MAX_REQUESTS = 4; // at the same time, so that the server can make batches
const MAX_SIDE = 2400; // pixels of a photograph as it is kept for drawing
const element = (id) => document.getElementById(id);
const threshold = element("threshold");
const photos = []; // in the order in which they were added
const waiting = []; // photographs without a request
let numRequests = 0;
let model = null; // answer of /model
const chosen = new Set(); // category names that are shown

const plural = (number, noun) => `${number.toLocaleString("en")} ${noun}${number === 1 ? "" : "s"}`;
const colorOf = (name) => model.classes.find((category) => category.name === name)?.color ?? "#888888";
const isShown = (detection) => detection.score >= Number(threshold.value) && chosen.has(detection.category_name);

async function loadModel() {
  try {
    const response = await fetch("model");
    if (!response.ok) throw new Error();
    model = await response.json();
  } catch {
    element("model").textContent = "The server does not answer. Check that it runs, and reload the page.";
    return;
  }
  const [height, width] = model.image_size;
  const classes = plural(model.classes.length, "class").replace("classs", "classes");
  element("model").textContent = `${model.name} · ${classes} · input of ${width}×${height} pixels`;
  document.title = `${model.name} – object detection`;
  threshold.min = Math.ceil(model.min_score * 100) / 100;
  threshold.value = Math.max(0.5, model.min_score);
  listClasses();
  update();
  startRequests();
}

function listClasses() {
  for (const category of model.classes) {
    const item = document.createElement("li");
    const label = document.createElement("label");
    const box = Object.assign(document.createElement("input"), { type: "checkbox", checked: true });
    box.addEventListener("change", () => {
      if (box.checked) chosen.add(category.name);
      else chosen.delete(category.name);
      update();
    });
    chosen.add(category.name);
    label.append(box, swatch(category.color), span("name", category.name), span("count", ""));
    item.append(label);
    element("class-list").append(item);
  }
  element("find-class").hidden = model.classes.length <= 12;
  element("classes").open = matchMedia("(min-width: 761px)").matches;
}

function span(className, text) {
  const result = document.createElement("span");
  result.className = className;
  result.textContent = text; // never HTML: names of classes and files come from others
  return result;
}

function swatch(color) {
  const result = span("swatch", "");
  result.style.background = color;
  return result;
}

function chooseClasses(isChosen) {
  for (const [index, item] of [...element("class-list").children].entries()) {
    if (item.hidden) continue;
    item.querySelector("input").checked = isChosen;
    if (isChosen) chosen.add(model.classes[index].name);
    else chosen.delete(model.classes[index].name);
  }
  update();
}

async function addFiles(files) {
  for (const file of files) {
    const card = element("photo").content.firstElementChild.cloneNode(true);
    const name = file.name || "pasted image";
    const photo = { file, name, card, bitmap: null, detections: [], size: null, facts: "", removed: false };
    card.querySelector("h2").textContent = name;
    const remove = card.querySelector(".remove");
    remove.setAttribute("aria-label", `Remove ${name}`);
    remove.addEventListener("click", () => removePhoto(photo));
    card.classList.add("busy");
    element("photos").append(card);
    photos.push(photo);
    waiting.push(photo);
  }
  update();
  startRequests();
}

function removePhoto(photo) {
  const index = photos.indexOf(photo);
  photo.removed = true;
  photo.card.remove();
  photo.bitmap?.close();
  photos.splice(index, 1);
  (photos[Math.min(index, photos.length - 1)]?.card ?? element("files")).focus();
  update();
}

function startRequests() {
  while (model && numRequests < MAX_REQUESTS && waiting.length) {
    const photo = waiting.shift();
    if (photo.removed) continue;
    numRequests += 1;
    detect(photo).finally(() => {
      numRequests -= 1;
      photo.card.classList.remove("busy");
      update();
      startRequests();
    });
  }
}

async function detect(photo) {
  // The browser turns the photograph upright, as the server does. It cannot show every format that the server reads.
  const full = await createImageBitmap(photo.file, { imageOrientation: "from-image" }).catch(() => null);
  if (full) {
    photo.size = [full.width, full.height];
    photo.bitmap = await reduce(full);
  }
  update();
  try {
    const answer = await send(photo);
    const [image] = answer.images;
    photo.size = [image.width, image.height];
    photo.detections = answer.detections;
    const { decode, wait, model: network } = image.times_ms;
    photo.facts =
      `${image.width}×${image.height} pixels · ${Math.round(answer.total_ms)} ms: ` +
      `decoding ${Math.round(decode)}, waiting ${Math.round(wait)}, model ${Math.round(network)}`;
  } catch (error) {
    const message = photo.card.querySelector(".message");
    message.textContent = error.message;
    message.hidden = false;
  }
}

/** Return a bitmap of at most MAX_SIDE pixels a side, so that many photographs of a camera fit into the memory. */
async function reduce(bitmap) {
  const scale = MAX_SIDE / Math.max(bitmap.width, bitmap.height);
  if (scale >= 1) return bitmap;
  const resizeWidth = Math.max(1, Math.round(bitmap.width * scale));
  const resizeHeight = Math.max(1, Math.round(bitmap.height * scale));
  const reduced = await createImageBitmap(bitmap, { resizeWidth, resizeHeight, resizeQuality: "high" });
  bitmap.close();
  return reduced;
}

async function send(photo) {
  if (photo.file.size > model.max_bytes)
    throw new Error(`The file has more than ${model.max_bytes.toLocaleString("en")} bytes. Choose a smaller file.`);
  for (;;) {
    let response;
    try {
      response = await fetch("detect", { method: "POST", body: photo.file });
    } catch {
      throw new Error("The server does not answer. Check that it runs.");
    }
    if (response.status !== 429 || photo.removed) {
      const answer = await response.json().catch(() => ({}));
      if (!response.ok) throw new Error(answer.error ?? `The server answered with status ${response.status}.`);
      return answer;
    }
    await new Promise((done) => setTimeout(done, 1000 * Number(response.headers.get("Retry-After") ?? 1)));
  }
}

function update() {
  document.body.classList.toggle("has-photos", photos.length > 0);
  element("photos").classList.toggle("single", photos.length === 1);
  element("remove-all").hidden = photos.length < 2;
  element("shown-threshold").textContent = Number(threshold.value).toFixed(2);
  if (!model) return;
  const counts = new Map();
  for (const photo of photos) {
    for (const detection of photo.detections)
      if (detection.score >= Number(threshold.value))
        counts.set(detection.category_name, (counts.get(detection.category_name) ?? 0) + 1);
    showPhoto(photo);
  }
  for (const [index, item] of [...element("class-list").children].entries())
    item.querySelector(".count").textContent = counts.get(model.classes[index].name) ?? "";
  const numShown = chosen.size;
  element("chosen-classes").textContent =
    numShown === model.classes.length ? `all ${numShown}` : `${numShown} of ${model.classes.length}`;
  const numDetections = photos.flatMap((photo) => photo.detections).filter(isShown).length;
  element("summary").textContent = photos.length
    ? `${plural(numDetections, "detection")} in ${plural(photos.length, "photograph")}`
    : "Boxes with lower scores are hidden.";
  const numBusy = photos.filter((photo) => photo.card.classList.contains("busy")).length;
  element("status").textContent = numBusy ? `Detecting objects in ${plural(numBusy, "photograph")} …` : "";
}

function showPhoto(photo) {
  const shown = photo.detections.filter(isShown);
  const canvas = photo.card.querySelector("canvas");
  canvas.hidden = !photo.size;
  if (photo.size) drawDetections(canvas, { ...photo, detections: shown, colorOf });
  const list = shown.map((detection) => `${detection.category_name} ${detection.score.toFixed(2)}`).join(", ");
  canvas.setAttribute("aria-label", `${photo.name}: ${list || "no detections"}`);
  photo.card.querySelector(".facts").textContent = photo.facts;
  const details = photo.card.querySelector("details");
  details.hidden = !photo.facts;
  details.querySelector("summary").textContent = plural(shown.length, "detection");
  const rows = shown.map((detection) => {
    const row = document.createElement("tr");
    const name = document.createElement("td");
    name.className = "text";
    name.append(swatch(colorOf(detection.category_name)), detection.category_name);
    const numbers = [detection.score.toFixed(3), ...detection.bbox.map((side) => side.toFixed(1))];
    row.append(name, ...numbers.map((text) => Object.assign(document.createElement("td"), { textContent: text })));
    row.addEventListener("mouseenter", () =>
      drawDetections(canvas, { ...photo, detections: shown, colorOf, highlighted: detection }),
    );
    row.addEventListener("mouseleave", () => drawDetections(canvas, { ...photo, detections: shown, colorOf }));
    return row;
  });
  details.querySelector("tbody").replaceChildren(...rows);
}

threshold.addEventListener("input", update);
element("all-classes").addEventListener("click", () => chooseClasses(true));
element("no-classes").addEventListener("click", () => chooseClasses(false));
element("remove-all").addEventListener("click", () => [...photos].forEach(removePhoto));
element("find-class").addEventListener("input", (event) => {
  const text = event.target.value.trim().toLowerCase();
  for (const [index, item] of [...element("class-list").children].entries())
    item.hidden = !model.classes[index].name.toLowerCase().includes(text);
});
element("files").addEventListener("change", (event) => {
  addFiles([...event.target.files]);
  event.target.value = ""; // so that the same file can be chosen again
});
document.addEventListener("paste", (event) => addFiles([...event.clipboardData.files]));
// A file that misses the box must not replace the page, so the whole window takes files.
for (const type of ["dragenter", "dragover"])
  addEventListener(type, (event) => {
    event.preventDefault();
    element("drop").classList.add("over");
  });
for (const type of ["dragleave", "drop"])
  addEventListener(type, (event) => {
    event.preventDefault();
    if (type === "drop" || !event.relatedTarget) element("drop").classList.remove("over");
  });
addEventListener("drop", (event) => addFiles([...event.dataTransfer.files]));
addEventListener("resize", update);
loadModel();
