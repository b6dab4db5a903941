"""Line charts as SVG, below each other, with a logarithmic axis for memory."""

import math

WIDTH, HEIGHT, LEFT, RIGHT, ABOVE, BELOW = 860, 330, 90, 20, 70, 50


def chart(title, y_title, lines, seconds, bottom, top, why_stopped):
    """LINES: (name, colour, dash, points)."""
    x = lambda time: LEFT + (WIDTH - LEFT - RIGHT) * time / seconds
    span = math.log10(top / bottom)
    y = lambda value: HEIGHT - BELOW - (HEIGHT - ABOVE - BELOW) * math.log10(max(value, bottom) / bottom) / span
    parts = [f'<text x="{LEFT}" y="24" font-size="16" font-weight="600">{title}</text>']
    at = LEFT
    for name, colour, dash, _ in lines:
        parts.append(f'<path d="M{at} 46h26" stroke="{colour}" stroke-width="3"{dash}/><text x="{at + 32}" y="50">{name}</text>')
        at += 52 + 6.9 * len(name)
    value = bottom
    while value <= top * 1.001:
        for factor in (1, 2, 5):
            line = value * factor
            if line <= top * 1.001:
                label = f"{line:g} MiB" if line < 1000 else f"{line:,.0f} MiB"
                strong = "#ccc" if factor == 1 else "#eee"
                parts.append(f'<path d="M{LEFT} {y(line):.1f}H{WIDTH - RIGHT}" stroke="{strong}"/>'
                             f'<text x="{LEFT - 8}" y="{y(line) + 4.5:.1f}" text-anchor="end" font-size="11">{label}</text>')
        value *= 10
    for second in range(0, int(seconds) + 1, max(1, int(seconds) // 10)):
        parts.append(f'<path d="M{x(second):.1f} {HEIGHT - BELOW}v5" stroke="#888"/>'
                     f'<text x="{x(second):.1f}" y="{HEIGHT - BELOW + 19}" text-anchor="middle">{second}</text>')
    parts.append(f'<text x="{(LEFT + WIDTH - RIGHT) / 2}" y="{HEIGHT - 12}" text-anchor="middle">time, s</text>'
                 f'<text transform="translate(16 {(ABOVE + HEIGHT - BELOW) / 2}) rotate(-90)" text-anchor="middle">{y_title}</text>'
                 f'<path d="M{LEFT} {ABOVE}V{HEIGHT - BELOW}H{WIDTH - RIGHT}" fill="none" stroke="#888"/>')
    for _, colour, dash, points in lines:
        path = " ".join(f"{x(time):.1f},{y(value):.1f}" for time, value in points)
        parts.append(f'<polyline fill="none" stroke="{colour}" stroke-width="2.5" stroke-linejoin="round"{dash} points="{path}"/>')
        if points[-1][0] < seconds - 1:
            time, value = points[-1]
            parts.append(f'<circle cx="{x(time):.1f}" cy="{y(value):.1f}" r="4" fill="{colour}"/>'
                         f'<text x="{x(time) + 10:.1f}" y="{y(value) + 4.5:.1f}" fill="{colour}">stopped: {why_stopped}</text>')
    return "\n".join(parts)


def svg(charts):
    height = HEIGHT * len(charts)
    body = "\n".join(f'<g transform="translate(0 {HEIGHT * at})">\n{drawn}\n</g>' for at, drawn in enumerate(charts))
    return (f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" width="{WIDTH}" height="{height}" '
            f'font-family="system-ui, sans-serif" font-size="13" fill="#222">\n<rect width="{WIDTH}" height="{height}" fill="#fff"/>\n'
            f"{body}\n</svg>\n")


COLOURS = {
    "Flumen, gRPC": ("#1f6fb4", ""), "Flumen, TTHeader": ("#1a9850", ' stroke-dasharray="7 4"'),
    "Hertz + Kitex, gRPC": ("#e08214", ' stroke-dasharray="3 3"'), "Hertz + Kitex, TTHeader mux": ("#c51b1b", ""),
}


def slow_readers(found, seconds):
    most = max(size for run in found.values() for points in run["points"].values() for _, size in points)
    top = next(step for step in (10, 20, 50, 100, 200, 500, 1000, 2000, 5000, 10000) if step >= most)
    charts = []
    for count in sorted({count for _, count in found}):
        for process in ("gateway", "service"):
            lines = [(who, *COLOURS[who], run["points"][process]) for (who, many), run in found.items() if many == count]
            readers = "one reader takes" if count == 1 else f"{count} readers take"
            charts.append(chart(f"The {process}'s memory while {readers} 1 KiB/s of an endless answer", "resident, log axis",
                                lines, seconds, 1, top,
                                "the gateway has reached 3 GiB"))
    return svg(charts)
