// Pictures of items, drawn from what the catalogue says: the category gives the thing, words of the title its colour
// and pattern, the id what is left to chance. The same item always looks the same.

const SVG = "http://www.w3.org/2000/svg";

const COLOURS = {
  RED: "#c8473c", PINK: "#e07f9f", BLUE: "#4a7fb8", GREEN: "#5f9a63", WHITE: "#fbf7ee", IVORY: "#f2e8d0",
  CREAM: "#f3e4c3", BLACK: "#46433f", SILVER: "#b7bfc6", GOLD: "#cfa741", PURPLE: "#8765ab", YELLOW: "#ebc64a",
  ORANGE: "#e29147", BROWN: "#9a6c47", TURQUOISE: "#4aaaa6", GREY: "#979ca1", WOOD: "#bd9064", WOODEN: "#bd9064",
  ZINC: "#aab5ba", GLASS: "#b5d6dc", METAL: "#a3adb3", RETROSPOT: "#c8473c", STRAWBERRY: "#d95763", ROSE: "#dd8b9b",
  LONDON: "#3f5f96", SPACEBOY: "#4f8fb8", WOODLAND: "#7c9a5b", REGENCY: "#d98aa5", CHOCOLATE: "#7d5238",
  CHRISTMAS: "#b5433c", APPLES: "#77a650", DOLLY: "#e58aa0", SKULL: "#5a5560", SKULLS: "#5a5560",
};
const PATTERNS = [
  [/SPOT|DOT\b/, "dots"], [/STRIPE/, "stripes"], [/GINGHAM|CHECK|TARTAN/, "checks"], [/HEART|LOVE/, "hearts"],
  [/STAR|SPACE/, "stars"], [/ROSE|FLOWER|FLORAL|PAISLEY|GARDEN|DAISY/, "petals"], [/JACK|LONDON/, "cross"],
];

// Hue of each category, also of its bar in the chart of interests.
const HUES = {
  Christmas: 355, Party: 42, "Cards & wrap": 330, Stationery: 215, "Tea & mugs": 24, Baking: 14,
  "Kitchen & dining": 190, "Candles & lights": 48, "Walls & signs": 260, Home: 100, Bags: 285,
  "Toys & crafts": 170, Jewellery: 310, Storage: 200, Garden: 130,
};

// On a canvas of 100 by 100. `body` takes colour and pattern, `line` is drawn, `dark` and `light` are details.
const THINGS = {
  Christmas: { body: "M50 14 68 40H60L76 62H66L82 84H18L34 62H24L40 40H32Z", dark: "M45 84h10v9H45z", light: "M50 6l3 6 6 1-4 5 1 6-6-3-6 3 1-6-4-5 6-1z" },
  Party: { body: "M12 30 36 37 20 62ZM40 38 62 38 51 66ZM66 37 90 30 80 62Z", line: "M6 27C34 42 66 42 94 27" },
  "Cards & wrap": { body: "M18 44h64v42H18z", light: "M45 44h10v42H45zM14 34h72v12H14z", line: "M50 34C40 16 24 20 32 30c4 4 12 4 18 4 6 0 14 0 18-4 8-10-8-14-18 4" },
  Stationery: { body: "M26 14h44a6 6 0 0 1 6 6v60a6 6 0 0 1-6 6H26z", dark: "M20 14h10v72H20z", line: "M40 32h26M40 44h26M40 56h18", light: "M62 70l22-30 7 5-22 30-9 4z" },
  "Tea & mugs": { body: "M22 34h46v38a14 14 0 0 1-14 14H36a14 14 0 0 1-14-14z", line: "M68 44h8a11 11 0 0 1 0 24h-8M36 26c-5-7 5-9 0-16M52 26c-5-7 5-9 0-16" },
  Baking: { body: "M28 56h44l-8 32H36z", light: "M24 56c-8-12 4-20 12-20 2-14 26-14 28 0 8 0 20 8 12 20z", dark: "M50 12a7 7 0 1 1-.1 0z" },
  "Kitchen & dining": { body: "M12 48h76a38 36 0 0 1-76 0z", dark: "M38 82h24v6H38z", line: "M34 38c-4-7 4-9 0-16M50 38c-4-7 4-9 0-16M66 38c-4-7 4-9 0-16" },
  "Candles & lights": { body: "M34 46h32v42H34z", light: "M50 12c10 12 10 22 0 27-10-5-10-15 0-27z", line: "M50 39v8M24 90h52" },
  "Walls & signs": { body: "M14 24h72v58H14z", light: "M24 34h52v38H24z", dark: "M28 70l14-20 10 12 8-9 14 17z", line: "M50 24V12M36 24 50 12 64 24" },
  Home: { body: "M18 24c22 7 42 7 64 0-7 18-7 34 0 52-22-7-42-7-64 0 7-18 7-34 0-52z", line: "M34 38c10 4 22 4 32 0M34 62c10-4 22-4 32 0" },
  Bags: { body: "M20 40h60l6 48H14z", line: "M36 50V36c0-24 28-24 28 0v14" },
  "Toys & crafts": { body: "M18 28h22c-8-14 28-14 20 0h22v22c14-8 14 28 0 20v18H18V70c14 8 14-28 0-20z" },
  Jewellery: { body: "M50 14 66 14 74 26 50 46 26 26 34 14z", line: "M50 46a24 24 0 1 1-.1 0M26 26h48M42 26l8 20 8-20" },
  Storage: { body: "M18 16h64v70H18z", line: "M18 40h64M18 63h64M44 29h12M44 52h12M44 75h12", dark: "M22 86h8v7h-8zM70 86h8v7h-8z" },
  Garden: { body: "M28 56h44l-7 34H35z", dark: "M24 50h52v9H24z", line: "M50 50V26", light: "M50 38C36 38 30 28 30 18c14 0 20 8 20 20zM50 32c0-12 6-20 20-20 0 12-6 20-20 20z" },
};
const KINDS = {
  shop: { body: "M20 44h60v42H20z", light: "M14 24h72l4 20H10z", dark: "M44 60h16v26H44z", line: "M32 24l-2 20M50 24v20M68 24l2 20" },
};

let made = 0;

/** A picture of an item as an SVG element, hidden from those who hear the page: the title stands beside it. */
export function picture(item) {
  const words = (item.title || "").toUpperCase();
  const chance = hash(item.item_id);
  const hue = HUES[item.category] ?? 205;
  const colour = colourOf(words) || `hsl(${hue + (chance % 24) - 12} 45% ${58 + (chance % 3) * 4}%)`;
  const thing = KINDS[item.kind] || THINGS[item.category] || THINGS.Home;
  const svg = element("svg", { viewBox: "0 0 100 100", "aria-hidden": "true", focusable: "false" });
  const id = `p${(made += 1)}`;
  const kind = patternOf(words) || ["plain", "plain", "dots", "stripes"][chance % 4];
  const defs = element("defs", {}, [pattern(id, kind, colour, chance)]);
  const ground = `hsl(${hue} 48% 93%)`;
  const tilt = ((chance >> 8) % 9) - 4;
  const drawn = element("g", { transform: `rotate(${tilt} 50 52) translate(11 11) scale(.78)` });
  const ink = "#2b3640";
  if (thing.line && item.category !== "Party") drawn.append(line(thing.line, ink));
  drawn.append(element("path", { d: thing.body, fill: `url(#${id})`, stroke: ink, "stroke-width": 2.2, "stroke-linejoin": "round" }));
  if (thing.dark) drawn.append(element("path", { d: thing.dark, fill: ink, "fill-opacity": 0.75 }));
  if (thing.light) drawn.append(element("path", { d: thing.light, fill: `hsl(${hue + 30} 70% 88%)`, stroke: ink, "stroke-width": 1.8, "stroke-linejoin": "round" }));
  if (thing.line && /Stationery|Home|Storage|Walls|Jewellery|Party|Cards/.test(item.category || "")) drawn.append(line(thing.line, ink));
  svg.append(defs, element("rect", { x: -50, width: 200, height: 100, fill: ground }), element("ellipse", { cx: 50, cy: 88, rx: 32, ry: 4, fill: ink, opacity: 0.08 }), drawn);
  return svg;
}

export const hueOf = (category) => HUES[category] ?? 205;

function line(d, ink) {
  return element("path", { d, fill: "none", stroke: ink, "stroke-width": 2.8, "stroke-linecap": "round", "stroke-linejoin": "round" });
}

function colourOf(words) {
  const found = words.split(/[^A-Z]+/).find((word) => word in COLOURS);
  return found && COLOURS[found];
}

function patternOf(words) {
  return PATTERNS.find(([word]) => word.test(words))?.[1];
}

function pattern(id, kind, colour, chance) {
  const size = kind === "plain" ? 40 : 14 + (chance % 3) * 2;
  const made = element("pattern", { id, width: size, height: size, patternUnits: "userSpaceOnUse" });
  const over = light(colour) ? "#b65a52" : "#fffaf0";
  made.append(element("rect", { width: size, height: size, fill: colour }));
  const half = size / 2;
  const marks = {
    plain: [],
    dots: [circle(half / 2, half / 2, 2.6, over), circle(half * 1.5, half * 1.5, 2.6, over)],
    stripes: [element("rect", { width: half * 0.7, height: size, fill: over, opacity: 0.75 })],
    checks: [
      element("rect", { width: half, height: size, fill: over, opacity: 0.45 }),
      element("rect", { width: size, height: half, fill: over, opacity: 0.45 }),
    ],
    hearts: [element("path", { d: `M${half} ${half + 4}l-4-4a2.4 2.4 0 0 1 4-3 2.4 2.4 0 0 1 4 3z`, fill: over })],
    stars: [element("path", { d: `M${half} ${half - 5}l1.5 3.2 3.5.4-2.6 2.3.8 3.5-3.2-1.8-3.2 1.8.8-3.5-2.6-2.3 3.5-.4z`, fill: over })],
    petals: [[-3, 0], [3, 0], [0, -3], [0, 3]].map(([x, y]) => circle(half + x, half + y, 2, over)),
    cross: [
      element("path", { d: `M0 0L${size} ${size}M${size} 0L0 ${size}`, stroke: over, "stroke-width": 2 }),
      element("path", { d: `M${half} 0V${size}M0 ${half}H${size}`, stroke: "#b5433c", "stroke-width": 2.4 }),
    ],
  };
  made.append(...marks[kind]);
  return made;
}

const circle = (cx, cy, r, fill) => element("circle", { cx, cy, r, fill });
const light = (colour) => ["#fbf7ee", "#f2e8d0", "#f3e4c3"].includes(colour);

function hash(text) {
  let value = 2166136261;
  for (const character of text) value = Math.imul(value ^ character.codePointAt(0), 16777619);
  return value >>> 0;
}

export function element(name, attributes = {}, children = []) {
  const made = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  made.append(...children);
  return made;
}
