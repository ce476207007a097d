(() => {
"use strict";
const map = document.getElementById("map");
if (!map) return;
const zoom = document.getElementById("zoom");
const head = zoom.querySelector("h3");
const area = zoom.querySelector(".area");
const back = zoom.querySelector("button");
const files = document.getElementById("files");
let from = null;

// as report/treemap.py lays boxes out, in pixels
function squarified(sizes, width, height) {
const total = sizes.reduce((sum, size) => sum + size, 0);
const areas = sizes.map((size) => (size / total) * width * height);
const worst = (sum, big, small, side) => Math.max((side * side * big) / (sum * sum), (sum * sum) / (side * side * small));
const places = [];
let left = 0, top = 0, at = 0;
while (at < areas.length) {
const side = Math.min(width, height);
let end = at + 1, sum = areas[at];
while (end < areas.length && worst(sum + areas[end], areas[at], areas[end], side) <= worst(sum, areas[at], areas[end - 1], side)) sum += areas[end++];
const depth = sum / side;
let along = 0;
for (const size of areas.slice(at, end)) {
const length = size / depth;
places.push(width >= height ? [left, top + along, depth, length] : [left + along, top, length, depth]);
along += length;
}
if (width >= height) { left += depth; width -= depth; } else { top += depth; height -= depth; }
at = end;
}
return places;
}

function draw() {
const kind = from.dataset.kind;
const parts = [...from.querySelectorAll(".f")].map((part) => ({ text: part.title, size: Number(part.dataset.s) }));
area.replaceChildren();
files.replaceChildren();
const box = area.getBoundingClientRect();
squarified(parts.map((part) => part.size), box.width, box.height).forEach(([left, top, width, height], at) => {
const part = document.createElement("div");
part.className = `f ${kind}`;
part.title = parts[at].text;
if (width > 60 && height > 18) part.textContent = parts[at].text;
part.style.cssText = `left:${left}px;top:${top}px;width:${width}px;height:${height}px`;
area.append(part);
});
for (const { text } of parts) {
const cut = text.lastIndexOf(", ");
const line = document.createElement("li");
for (const piece of [text.slice(0, cut), text.slice(cut + 2)]) {
const span = document.createElement("span");
span.textContent = piece;
line.append(span);
}
files.append(line);
}
}

function open(group) {
from = group;
head.textContent = group.getAttribute("aria-label");
const start = group.getBoundingClientRect();
const whole = map.getBoundingClientRect();
map.classList.add("zoomed");
zoom.hidden = false;
files.hidden = false;
draw();
back.focus();
if (!matchMedia("(prefers-reduced-motion: reduce)").matches) {
const move = `translate(${start.left - whole.left}px, ${start.top - whole.top}px) scale(${start.width / whole.width}, ${start.height / whole.height})`;
zoom.style.transformOrigin = "0 0";
zoom.animate([{ transform: move, opacity: 0.4 }, { transform: "none", opacity: 1 }], { duration: 180, easing: "ease-out" });
}
}

function close() {
map.classList.remove("zoomed");
zoom.hidden = true;
files.hidden = true;
area.replaceChildren();
files.replaceChildren();
from.focus();
from = null;
}

map.addEventListener("click", (event) => {
const group = event.target.closest("a.g");
if (!group || !group.querySelector(".f") || event.ctrlKey || event.metaKey || event.shiftKey) return;
event.preventDefault();
open(group);
});
map.addEventListener("keydown", (event) => {
if (event.key === " " && event.target.matches("a.g")) { event.preventDefault(); event.target.click(); }
});
document.addEventListener("keydown", (event) => {
if (event.key === "Escape" && from) close();
});
back.addEventListener("click", close);
addEventListener("resize", () => { if (from) draw(); });
document.getElementById("hint").hidden = false;
})();
