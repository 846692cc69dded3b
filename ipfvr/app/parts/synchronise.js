// Two players side by side are one: the source follows the restored film, which has the sound.
(() => {
  const other = (video) => [...video.closest(".ip-two").querySelectorAll("video")].find((v) => v !== video);
  const listen = (name, act) =>
    document.addEventListener(
      name,
      (event) => {
        const video = event.target;
        if (!(video instanceof HTMLVideoElement) || !video.closest(".ip-two")) return;
        const pair = other(video);
        if (pair) act(video, pair);
      },
      true
    );
  const align = (video, pair) => {
    if (Math.abs(pair.currentTime - video.currentTime) > 0.08) pair.currentTime = video.currentTime;
  };
  listen("play", (video, pair) => { align(video, pair); if (pair.paused) pair.play().catch(() => {}); });
  listen("pause", (video, pair) => { if (!pair.paused && !pair.ended) pair.pause(); });
  listen("seeked", (video, pair) => { if (video.paused) align(video, pair); });
  listen("error", (video) => {
    video.closest("figure").querySelector("figcaption").textContent += " (this browser cannot play it)";
  });
})();
