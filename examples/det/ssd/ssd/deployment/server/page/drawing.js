// Draw a photograph with boxes and captions on a canvas, sharp on screens with any density of pixels.

const FONT = '"Segoe UI", Roboto, "Noto Sans", "Liberation Sans", "DejaVu Sans", sans-serif';

/**
 * Draw a photograph and its detections.
 *
 * bitmap: the upright photograph, or null if the browser cannot show its format
 * size: [width, height] of the upright photograph in pixels
 * detections: with bbox [x, y, width, height] in pixels of the photograph, score and category_name
 * colorOf: function that returns the color of a class name
 * highlighted: detection that is drawn alone with full color, or undefined
 */
export function drawDetections(canvas, { bitmap, size, detections, colorOf, highlighted }) {
  const [width, height] = size;
  const frame = canvas.parentElement;
  const maxHeight = 0.76 * innerHeight; // as in style.css
  const scale = Math.min(frame.clientWidth / width, maxHeight / height, Math.max(1.5, 480 / width));
  const density = devicePixelRatio || 1;
  canvas.width = Math.max(1, Math.round(width * scale * density));
  canvas.height = Math.max(1, Math.round(height * scale * density));
  canvas.style.width = `${canvas.width / density}px`;
  const context = canvas.getContext("2d");
  context.imageSmoothingQuality = "high";
  if (bitmap) {
    context.drawImage(bitmap, 0, 0, canvas.width, canvas.height);
  } else {
    context.fillStyle = "#dde2e8";
    context.fillRect(0, 0, canvas.width, canvas.height);
  }
  context.scale(density, density);
  const rising = [...detections].sort((a, b) => a.score - b.score); // the best ones on top
  for (const detection of rising) {
    context.globalAlpha = highlighted && detection !== highlighted ? 0.15 : 1;
    drawBox(context, detection.bbox.map((side) => side * scale), colorOf(detection.category_name));
  }
  for (const detection of rising) {
    context.globalAlpha = highlighted && detection !== highlighted ? 0.15 : 1;
    drawCaption(context, {
      box: detection.bbox.map((side) => side * scale),
      text: `${detection.category_name} ${detection.score.toFixed(2)}`,
      color: colorOf(detection.category_name),
      bounds: [width * scale, height * scale],
    });
  }
}

function drawBox(context, [x, y, width, height], color) {
  context.lineWidth = 4;
  context.strokeStyle = "#ffffffb0"; // visible on any background
  context.strokeRect(x, y, width, height);
  context.lineWidth = 2;
  context.strokeStyle = color;
  context.strokeRect(x, y, width, height);
}

/** Draw a caption above its box, or inside if there is no room. bounds: [width, height] of the canvas */
function drawCaption(context, { box: [x, y], text, color, bounds }) {
  const height = 18;
  context.font = `600 12px ${FONT}`;
  const width = Math.min(context.measureText(text).width + 8, bounds[0]);
  const left = Math.max(0, Math.min(x - 1, bounds[0] - width));
  const top = y >= height ? y - height : Math.max(0, y);
  context.fillStyle = color;
  context.fillRect(left, top, width, height);
  context.fillStyle = isBright(color) ? "#000" : "#fff";
  context.textBaseline = "middle";
  context.fillText(text, left + 4, top + height / 2 + 0.5, width - 8);
}

/** Return whether black text has more contrast on a color than white text. color: "#rrggbb" */
function isBright(color) {
  const [red, green, blue] = [1, 3, 5].map((start) => {
    const value = parseInt(color.slice(start, start + 2), 16) / 255;
    return value <= 0.04045 ? value / 12.92 : ((value + 0.055) / 1.055) ** 2.4;
  });
  return 0.2126 * red + 0.7152 * green + 0.0722 * blue > 0.2;
}
