"use strict";
// Tables of the class sortable: the button of a head sorts by its column, and once more the other way round.

// Numbers by size and before texts; null, of a cell without a value, last in both directions.
function compare(a, b, descending) {
  if (a === null || b === null) return (a === null) - (b === null);
  const x = Number(a), y = Number(b);
  const numbers = [!Number.isNaN(x), !Number.isNaN(y)];
  if (numbers[0] !== numbers[1]) return numbers[0] ? -1 : 1;
  const order = numbers[0] ? x - y : a.localeCompare(b);
  return descending ? -order : order;
}

function sortBy(head) {
  const descending = head.getAttribute("aria-sort") === "ascending";
  for (const other of head.parentElement.children) other.removeAttribute("aria-sort");
  head.setAttribute("aria-sort", descending ? "descending" : "ascending");
  const body = head.closest("table").tBodies[0];
  const value = (row) => row.cells[head.cellIndex].getAttribute("data-value");
  body.append(...[...body.rows].sort((a, b) => compare(value(a), value(b), descending)));
}

if (typeof module !== "undefined") module.exports = { compare };
else
  for (const button of document.querySelectorAll("table.sortable th button"))
    button.addEventListener("click", () => sortBy(button.parentElement));
