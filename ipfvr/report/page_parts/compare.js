// Two versions of a clip over one another: the right one is cut off at the slider.
for (const figure of document.querySelectorAll(".compare")) {
  const part = (name) => figure.querySelector(name);
  const videos = [...figure.querySelectorAll("video")];
  const shown = () => [videos[part(".left").value], videos[part(".right").value]];
  const cut = () => {
    const at = part(".slider").value;
    const [left, right] = shown();
    for (const video of videos) video.style.clipPath = "";
    if (left !== right) right.style.clipPath = `inset(0 0 0 ${at}%)`;
    part(".bar").style.left = `calc(${at}% - 1px)`;
  };
  const choose = () => {
    const [left, right] = shown();
    for (const video of videos) {
      video.classList.toggle("shown", video === left || video === right);
      video.style.zIndex = video === right ? 1 : 0;
      if (video !== left) video.pause();
    }
    // A video that has never been sought shows nothing in some browsers until it is played.
    if (left.currentTime === 0) left.currentTime = 0.001;
    right.currentTime = left.currentTime;
    if (!left.paused) right.play();
    cut();
  };
  part(".bar").style.zIndex = 2;
  part(".slider").addEventListener("input", cut);
  for (const side of [".left", ".right"]) part(side).addEventListener("change", choose);
  part(".play").addEventListener("click", () => {
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
