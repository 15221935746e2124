// Plays the tracks of a player, one at a time, at the same position. The HTML comes from player.py.
"use strict";
(() => {
  const parts = (player) => ({
    audios: [...player.querySelectorAll("audio")],
    choices: [...player.querySelectorAll(".sf-choices button")],
    play: player.querySelector(".sf-play"),
    number: Number(player.dataset.track),
  });

  const draw = (player) => {
    const { audios, play, number } = parts(player);
    const { currentTime, paused } = audios[number];
    play.textContent = paused ? "▶" : "❚❚";
    play.setAttribute("aria-label", paused ? "Play" : "Pause");
    const seconds = Number(player.querySelector(".sf-plot").dataset.seconds);
    player.querySelector(".sf-time").textContent = `${currentTime.toFixed(1)} / ${seconds.toFixed(1)} s`;
    player.querySelectorAll(".sf-head").forEach((head) => {
      head.style.left = `${(100 * currentTime) / seconds}%`;
    });
    player.querySelectorAll(".sf-track").forEach((track) => {
      track.classList.toggle("sf-chosen", Number(track.dataset.track) === number);
    });
    if (!paused) requestAnimationFrame(() => player.isConnected && draw(player));
  };

  const choose = (player, next) => {
    const { audios, choices, number } = parts(player);
    const [from, to] = [audios[number], audios[next]];
    const playing = !from.paused;
    from.pause();
    to.currentTime = from.currentTime < to.duration ? from.currentTime : 0;
    player.dataset.track = next;
    choices.forEach((choice, index) => choice.setAttribute("aria-pressed", String(index === next)));
    if (playing) to.play();
    draw(player);
  };

  const seek = (player, seconds) => {
    const { audios, number } = parts(player);
    audios[number].currentTime = Math.min(seconds, audios[number].duration || 0);
    draw(player);
  };

  document.addEventListener("click", (event) => {
    const player = event.target.closest(".sf-player");
    if (!player) return;
    const { audios, number } = parts(player);
    const choice = event.target.closest(".sf-choices button");
    const plot = event.target.closest(".sf-plot");
    if (choice) choose(player, Number(choice.dataset.track));
    else if (event.target.closest(".sf-play")) {
      if (audios[number].paused) {
        document.querySelectorAll(".sf-player audio").forEach((audio) => audio.pause());
        audios[number].play();
      } else audios[number].pause();
    } else if (plot) {
      const { left, width } = plot.getBoundingClientRect();
      const next = Number(plot.closest(".sf-track").dataset.track);
      if (next !== number) choose(player, next);
      seek(player, (Number(plot.dataset.seconds) * (event.clientX - left)) / width);
    }
  });

  // these events do not bubble, so they are captured
  for (const name of ["play", "pause", "ended", "seeked", "loadedmetadata"])
    document.addEventListener(
      name,
      (event) => {
        const player = event.target.closest?.(".sf-player");
        if (player) draw(player);
      },
      true,
    );

  // an error that appears outside of the window is scrolled into view
  new MutationObserver((changes) => {
    for (const { addedNodes } of changes)
      for (const node of addedNodes) {
        const error = node.nodeType === 1 && (node.matches(".sf-error") ? node : node.querySelector(".sf-error"));
        if (error) return error.scrollIntoView({ block: "center", behavior: "smooth" });
      }
  }).observe(document.documentElement, { childList: true, subtree: true });
})();
