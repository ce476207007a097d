"use strict";
// Hides the boards in which not every word occurs; without this script all are shown, and the browser's own
// search finds them.
const plain = (text) => text.toLowerCase().replace(/[^\p{L}\p{N} ]/gu, "");
const boards = [...document.querySelectorAll("[data-words]")].map((item) => [item, plain(item.dataset.words)]);
const input = document.getElementById("words");
function search() {
  const words = plain(input.value).split(" ").filter(Boolean);
  let count = 0;
  for (const [item, text] of boards) {
    item.hidden = !words.every((word) => text.includes(word));
    count += item.hidden ? 0 : 1;
  }
  for (const section of document.querySelectorAll(".vendor")) {
    section.hidden = !section.querySelector("li:not([hidden])");
  }
  document.getElementById("found").textContent = words.length ? `${count} of ${boards.length} found` : "";
}
input.addEventListener("input", search);
document.getElementById("search").hidden = false;
search();
