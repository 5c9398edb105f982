// Moves all films of the page together, from −3 to 3 and back, until it is paused; not unasked where motion isn't wanted.
const player = document.querySelector(".player");
const [button, slider, output] = player.children;
const films = document.querySelectorAll(".film");
const last = Number(slider.max);
let timer = 0, direction = 1;

function show() {
  for (const film of films) film.style.backgroundPositionX = `${100 * slider.value / last}%`;
  const value = (6 * slider.value / last - 3).toFixed(1).replace("-0.0", "0.0");
  output.textContent = value.replace("-", "−");
  slider.setAttribute("aria-valuetext", value);
}

function step() {
  const at = Number(slider.value);
  if (at + direction < 0 || at + direction > last) direction = -direction;
  slider.value = at + direction;
  show();
}

function play(wanted) {
  clearInterval(timer);
  timer = wanted ? setInterval(step, 80) : 0;
  button.textContent = wanted ? "Pause" : "Play";
}

button.addEventListener("click", () => play(!timer));
slider.addEventListener("input", () => { play(false); show(); });
player.hidden = false;
show();
play(!matchMedia("(prefers-reduced-motion: reduce)").matches);
