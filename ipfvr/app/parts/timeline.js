// A click on the timeline moves the frame slider there, as if the slider had been dragged and released.
document.addEventListener("click", (event) => {
  const bar = event.target.closest?.("#timeline .bar");
  const slider = bar && document.querySelector("#frame input[type=range]");
  if (!slider) return;
  const box = bar.getBoundingClientRect();
  const share = Math.min(Math.max((event.clientX - box.left) / box.width, 0), 1);
  // The page's framework sees a new value only through the element's own setter and an event.
  Object.getOwnPropertyDescriptor(HTMLInputElement.prototype, "value").set.call(slider, Math.round(share * slider.max));
  slider.dispatchEvent(new Event("input", { bubbles: true }));
  slider.dispatchEvent(new PointerEvent("pointerup", { bubbles: true }));
});
