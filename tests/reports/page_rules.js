// The main rules of accessible pages, returned as a list of what breaks them; see test_reports_browser.py.
const broken = [];
const say = (rule, node) => broken.push(rule + ': ' + (node ? node.outerHTML.slice(0, 120) : ''));
const all = (selector) => [...document.querySelectorAll(selector)];
const shown = (node) => node.checkVisibility({ visibilityProperty: true });

if (!document.documentElement.lang) say('the page names its language');
if (!document.title.trim()) say('the page has a title');
if (all('h1').length !== 1) say('one h1');
for (const [selector, n] of [['header.lead', 1], ['main', 1], ['footer', 1], ['nav[aria-label]', 1]])
  if (all(selector).length !== n) say('landmark ' + selector);
let level = 0;
for (const head of all('h1, h2, h3, h4')) {
  const now = Number(head.tagName[1]);
  if (now > level + 1) say('no level of headings is skipped', head);
  if (!head.textContent.trim()) say('headings have words', head);
  level = now;
}
const ids = all('[id]').map((node) => node.id);
for (const id of ids) if (ids.indexOf(id) !== ids.lastIndexOf(id)) say('ids are unique: ' + id);
for (const node of all('[aria-describedby], [aria-labelledby]'))
  for (const id of (node.getAttribute('aria-describedby') || node.getAttribute('aria-labelledby')).split(' '))
    if (!document.getElementById(id)) say('references lead somewhere', node);
for (const node of all('a')) if (!(node.getAttribute('aria-label') || node.textContent).trim()) say('links have names', node);
for (const node of all('a[href^="#"]')) if (!document.getElementById(node.hash.slice(1))) say('anchors exist', node);
for (const node of all('img:not([alt]), svg:not([aria-label])')) say('drawings have alternative text', node);
for (const node of all('[role=region], [role=group], [role=img]'))
  if (!(node.getAttribute('aria-label') || '').trim()) say('regions have names', node);
for (const node of all('[role=img] [tabindex]')) say('nothing inside an image takes the focus', node);
for (const node of all('figure')) if (!node.querySelector('figcaption')) say('figures have captions', node);
for (const table of all('table')) {
  for (const head of table.querySelectorAll('th')) if (!head.getAttribute('scope')) say('headers have scope', head);
  for (const row of table.querySelectorAll('tbody tr'))
    if (row.querySelectorAll('th[scope=row]').length !== 1) say('rows have a header', row);
  const width = table.querySelectorAll('thead tr > *').length;
  for (const row of table.querySelectorAll('tbody tr')) if (row.children.length !== width) say('rows are whole', row);
}
for (const node of all('.scroll')) if (node.tabIndex !== 0) say('what scrolls can be reached', node);
for (const node of all('ul > *, ol > *')) if (node.tagName !== 'LI') say('lists hold items', node);
for (const node of all('dl > *')) if (!['DT', 'DD', 'DIV'].includes(node.tagName)) say('terms and descriptions', node);

const parse = (color) => {
  const found = color.match(/[\d.]+/g).map(Number);
  return found.length > 3 ? found : [...found, 1];
};
const light = ([r, g, b]) =>
  [r, g, b].map((v) => v / 255).map((v) => (v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4))
    .reduce((sum, v, at) => sum + v * [0.2126, 0.7152, 0.0722][at], 0);
const behind = (node) => {
  for (let at = node; at; at = at.parentElement) {
    const color = parse(getComputedStyle(at).backgroundColor);
    if (color[3] === 1) return color;
  }
  return [255, 255, 255, 1];
};
for (const node of all('body *')) {
  const words = [...node.childNodes].some((child) => child.nodeType === 3 && child.textContent.trim());
  if (!words || node.closest('svg') || !shown(node)) continue;
  const style = getComputedStyle(node);
  const [one, two] = [light(parse(style.color)), light(behind(node))].sort((a, b) => b - a);
  const large = parseFloat(style.fontSize) >= 24 || (parseFloat(style.fontSize) >= 18.66 && style.fontWeight >= 700);
  if ((one + 0.05) / (two + 0.05) < (large ? 3 : 4.5)) say('contrast ' + style.color, node);
}
return broken;
