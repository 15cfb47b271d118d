// A method under the pointer is lit up in the table, the curve and its legend.
const all = document.querySelectorAll('.line,.legend [data-method],.methods tbody tr');
for (const one of all) {
  one.addEventListener('pointerenter', () => all.forEach(other =>
    other.classList.toggle('dim', other.dataset.method !== one.dataset.method)));
  one.addEventListener('pointerleave', () => all.forEach(other => other.classList.remove('dim')));
}
