"use strict";

// The value a row is sorted by: a number where the cell carries one, its text otherwise; "" is missing.
function value(row, column) {
  const cell = row.cells[column];
  const number = cell.dataset.value;
  return number === undefined ? cell.textContent : number === "" ? "" : Number(number);
}

// Missing values stay last in either direction.
function compare(a, b, sign) {
  if (a === "" || b === "") return (a === "") - (b === "");
  return sign * (typeof a === "number" ? a - b : a.localeCompare(b, undefined, { numeric: true }));
}

function sort(table, head) {
  const column = Number(head.dataset.column);
  const first = head.classList.contains("number") ? "descending" : "ascending";
  const other = first === "ascending" ? "descending" : "ascending";
  const order = head.getAttribute("aria-sort") === first ? other : first;
  for (const each of table.tHead.querySelectorAll("[aria-sort]")) each.removeAttribute("aria-sort");
  head.setAttribute("aria-sort", order);
  const sign = order === "ascending" ? 1 : -1;
  const body = table.tBodies[0];
  const rows = Array.from(body.rows);
  rows.sort((a, b) => compare(value(a, column), value(b, column), sign));
  body.append(...rows);
}

for (const table of document.querySelectorAll("table")) {
  for (const head of table.tHead.querySelectorAll("[data-column]")) {
    head.querySelector("button").addEventListener("click", () => sort(table, head));
  }
}

// A link to settings opens them.
function open() {
  const part = document.getElementById(location.hash.slice(1));
  if (part instanceof HTMLDetailsElement) part.open = true;
}
addEventListener("hashchange", open);
open();
