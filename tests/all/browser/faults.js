(() => {
  const faults = [];
  const root = document.scrollingElement;
  if (root.scrollWidth > innerWidth) faults.push("wide: " + root.scrollWidth + " of " + innerWidth);

  // A colour as red, green, blue and opacity, each from 0 to 1.
  const parsed = (text) => {
    const numbers = text.match(/-?[\d.]+(e-?\d+)?/g).map(Number);
    const scale = text.startsWith("rgb") ? 255 : 1;
    return [numbers[0] / scale, numbers[1] / scale, numbers[2] / scale, numbers[3] ?? 1];
  };
  const over = (top, below) => [0, 1, 2].map((at) => top[at] * top[3] + below[at] * (1 - top[3]));
  const ground = (element) => {
    if (!element) return parsed(getComputedStyle(document.documentElement).colorScheme.includes("dark") && matchMedia("(prefers-color-scheme: dark)").matches ? "rgb(18,18,18)" : "rgb(255,255,255)");
    const own = parsed(getComputedStyle(element).backgroundColor);
    return own[3] === 1 ? own : over(own, ground(element.parentElement)).concat(1);
  };
  const luminance = (colour) => {
    const [red, green, blue] = colour.map((part) => (part <= 0.04045 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4));
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue;
  };
  const contrast = (one, other) => {
    const [less, more] = [luminance(one), luminance(other)].sort((a, b) => a - b);
    return (more + 0.05) / (less + 0.05);
  };

  for (const element of document.body.querySelectorAll("*")) {
    const says = Array.from(element.childNodes).some((node) => node.nodeType === 3 && node.data.trim());
    if (!says || !element.getClientRects().length || ["SCRIPT", "STYLE", "TITLE", "title"].includes(element.tagName)) continue;
    const style = getComputedStyle(element);
    const inSvg = element instanceof SVGElement;
    const beside = inSvg ? element.parentElement.querySelector("rect") : null;
    const below = beside ? parsed(getComputedStyle(beside).fill) : ground(element);
    const ratio = contrast(parsed(inSvg ? style.fill : style.color), below);
    if (ratio < 4.5) faults.push("pale: " + ratio.toFixed(2) + " " + element.tagName + " " + element.textContent.slice(0, 40));
  }

  for (const element of document.querySelectorAll("a[href], button, input, summary, [tabindex]")) {
    const label = element.labels && element.labels.length ? element.labels[0].textContent : "";
    const name = element.getAttribute("aria-label") || element.textContent || label;
    if (!name.trim()) faults.push("nameless: " + element.outerHTML.slice(0, 80));
  }
  return Array.from(new Set(faults)).slice(0, 20);
})()
