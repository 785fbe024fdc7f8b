"use strict";
// A place that is gone to is opened, and so is what holds it.
function open_target() {
  const target = document.getElementById(decodeURIComponent(location.hash.slice(1)));
  if (!target) return;
  for (const details of target.matches("details") ? [target] : target.querySelectorAll("details")) details.open = true;
}
addEventListener("hashchange", open_target);
open_target();

const filter = document.getElementById("filter");
const told = document.querySelector(".filter output");
const images = Array.from(document.querySelectorAll("article.image"));
filter.closest("p").hidden = images.length < 4;
filter.addEventListener("input", () => {
  const words = filter.value.toLowerCase().split(/\s+/).filter(Boolean);
  let shown = 0;
  for (const image of images) {
    const text = image.dataset.words.toLowerCase();
    image.hidden = !words.every((word) => text.includes(word));
    shown += image.hidden ? 0 : 1;
  }
  told.textContent = words.length ? shown + " of " + images.length : "";
});
