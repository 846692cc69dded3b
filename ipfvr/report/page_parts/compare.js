// Two versions of a clip or of a frame over one another: the right one is cut off at the slider.
// A page that gets figures later runs this again: those that move already are left alone.
for (const figure of document.querySelectorAll(".compare:not(.alive)")) {
  figure.classList.add("alive");
  const part = (name) => figure.querySelector(name);
  const versions = [...figure.querySelectorAll(".version")];
  const videos = versions.filter((version) => version instanceof HTMLVideoElement);
  // Where there is nothing to choose the first is left and the second is right.
  const chosen = (side, otherwise) => versions[part(side) ? part(side).value : otherwise];
  const shown = () => [chosen(".left", 0), chosen(".right", 1)];
  const slider = part(".slider"), stage = part(".stage");
  const cut = () => {
    const [left, right] = shown();
    for (const version of versions) version.style.clipPath = "";
    if (left !== right) right.style.clipPath = `inset(0 0 0 ${slider.value}%)`;
    part(".bar").style.left = `calc(${slider.value}% - 1px)`;
  };
  const choose = () => {
    const [left, right] = shown();
    for (const version of versions) {
      version.classList.toggle("shown", version === left || version === right);
      version.style.zIndex = version === right ? 1 : 0;
    }
    if (videos.length) meet(left, right);
    cut();
  };
  const meet = (left, right) => {
    for (const video of videos) if (video !== left) video.pause();
    // A video that has never been sought shows nothing in some browsers until it is played.
    if (left.currentTime === 0) left.currentTime = 0.001;
    right.currentTime = left.currentTime;
    if (!left.paused) right.play();
  };
  part(".bar").style.zIndex = 2;
  slider.addEventListener("input", cut);
  const drag = (event) => {
    if (event.type === "pointermove" && !event.buttons) return;
    const box = stage.getBoundingClientRect();
    slider.value = (100 * (event.clientX - box.left)) / box.width;
    cut();
  };
  stage.addEventListener("pointerdown", drag);
  stage.addEventListener("pointermove", drag);
  for (const side of [".left", ".right"]) part(side)?.addEventListener("change", choose);
  part(".play")?.addEventListener("click", () => {
    const [left, right] = shown();
    const play = left.paused;
    right.currentTime = left.currentTime;
    for (const video of [left, right]) play ? video.play() : video.pause();
  });
  // Videos of one length drift apart in a loop: the right one follows.
  for (const video of videos) video.addEventListener("timeupdate", () => {
    const [left, right] = shown();
    if (video === left && Math.abs(right.currentTime - left.currentTime) > 0.08) right.currentTime = left.currentTime;
  });
  choose();
}
