// What people call units. A button turns a unit's title into a field, and all names together are a run's units.json.

function download(blob, name) {
  const url = URL.createObjectURL(blob), link = Object.assign(document.createElement("a"), { href: url, download: name });
  link.click();
  setTimeout(() => URL.revokeObjectURL(url), 1000);
}

// The file's text: a name by each unit's number, in the order of the numbers.
function named(units) {
  const names = Object.fromEntries(units.filter((unit) => unit.called).map((unit) => [unit.unit, unit.called]));
  return `${JSON.stringify(names, null, 2)}\n`;
}

// Lets a unit be called something else; an empty name gives it back the title that it has without one.
function buildName(panel, unit, label, parent) {
  const button = make("button", parent, { type: "button", className: "rename", textContent: "Name", ariaLabel: `Name unit ${unit.unit}` });
  button.addEventListener("click", () => {
    const field = make("input", parent, { type: "text", className: "name", maxLength: 40, value: unit.called, ariaLabel: `Name of unit ${unit.unit}` });
    label.before(field);
    label.hidden = button.hidden = true;
    let isOpen = true;
    const close = (keep) => {
      if (!isOpen) return; // to remove a field takes the focus from it
      isOpen = false;
      field.remove();
      label.hidden = button.hidden = false;
      const name = field.value.trim();
      if (!keep || name === unit.called) return;
      Object.assign(unit, { called: name, name: name || unit.plain });
      retitle(panel);
    };
    field.addEventListener("keydown", (event) => {
      if (event.key !== "Enter" && event.key !== "Escape") return;
      close(event.key === "Enter");
      button.focus();
    });
    field.addEventListener("blur", () => close(true));
    field.focus();
    field.select();
  });
}

function retitle(panel) {
  const units = new Map(panel.units.map((unit) => [unit.unit, unit]));
  for (const { unit, title } of panel.rows) title.textContent = units.get(unit).name;
  for (const option of panel.axes.flatMap((select) => [...select.options])) option.textContent = called(units.get(Number(option.value)));
  panel.find(".names").hidden = false;
  panel.refresh();
}
