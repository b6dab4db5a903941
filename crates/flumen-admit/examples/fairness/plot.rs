//! Line charts as SVG.

use crate::scenario::SECONDS;

pub(crate) struct Chart {
    pub(crate) title: String,
    /// What the vertical axis counts.
    pub(crate) y: String,
    /// Where the vertical axis ends; otherwise above the highest point.
    pub(crate) top: Option<f64>,
    pub(crate) lines: Vec<Line>,
}

pub(crate) struct Line {
    pub(crate) name: String,
    pub(crate) colour: &'static str,
    pub(crate) points: Vec<(f64, f64)>,
}

const WIDTH: f64 = 860.0;
const HEIGHT: f64 = 340.0;
const LEFT: f64 = 90.0;
const RIGHT: f64 = 20.0;
const ABOVE: f64 = 64.0;
const BELOW: f64 = 52.0;

/// Charts below each other.
pub(crate) fn svg(charts: &[Chart]) -> String {
    let height = HEIGHT * charts.len() as f64;
    let mut text = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" width=\"{WIDTH}\" height=\"{height}\" \
         font-family=\"system-ui, sans-serif\" font-size=\"13\" fill=\"#222\">\n\
         <rect width=\"{WIDTH}\" height=\"{height}\" fill=\"#fff\"/>\n"
    );
    for (at, chart) in charts.iter().enumerate() {
        text += &format!("<g transform=\"translate(0 {})\">\n{}</g>\n", HEIGHT * at as f64, draw(chart));
    }
    text + "</svg>\n"
}

fn draw(chart: &Chart) -> String {
    let highest = chart.lines.iter().flat_map(|line| &line.points).map(|&(_, y)| y).fold(1e-9, f64::max);
    let step = nice(chart.top.unwrap_or(highest) / 5.0);
    let top = chart.top.unwrap_or((highest / step).ceil() * step);
    let x = |time: f64| LEFT + (WIDTH - LEFT - RIGHT) * time / SECONDS;
    let y = |value: f64| HEIGHT - BELOW - (HEIGHT - ABOVE - BELOW) * value / top;
    let mut text =
        format!("<text x=\"{LEFT}\" y=\"24\" font-size=\"16\" font-weight=\"600\">{}</text>\n", chart.title);
    let mut at = LEFT;
    for line in &chart.lines {
        text += &format!(
            "<path d=\"M{at} 43h22\" stroke=\"{}\" stroke-width=\"3\"/><text x=\"{}\" y=\"47\">{}</text>\n",
            line.colour,
            at + 28.0,
            line.name
        );
        at += 60.0 + 8.0 * line.name.len() as f64;
    }
    for n in 0..=((top / step).round() as u32) {
        let value = f64::from(n) * step;
        text += &format!(
            "<path d=\"M{LEFT} {0:.1}H{1}\" stroke=\"#ddd\"/><text x=\"{2}\" y=\"{3:.1}\" text-anchor=\"end\">{4}</text>\n",
            y(value),
            WIDTH - RIGHT,
            LEFT - 8.0,
            y(value) + 4.5,
            label(value),
        );
    }
    for minute in 0..=(SECONDS / 60.0) as u32 {
        let time = f64::from(minute) * 60.0;
        text += &format!(
            "<path d=\"M{0:.1} {1}v5\" stroke=\"#888\"/><text x=\"{0:.1}\" y=\"{2}\" text-anchor=\"middle\">{time:.0}</text>\n",
            x(time),
            HEIGHT - BELOW,
            HEIGHT - BELOW + 20.0,
        );
    }
    text += &format!(
        "<text x=\"{:.1}\" y=\"{}\" text-anchor=\"middle\">time, s</text>\n\
         <text transform=\"translate(18 {:.1}) rotate(-90)\" text-anchor=\"middle\">{}</text>\n\
         <path d=\"M{LEFT} {ABOVE}V{}H{}\" fill=\"none\" stroke=\"#888\"/>\n",
        f64::midpoint(LEFT, WIDTH - RIGHT),
        HEIGHT - 12.0,
        f64::midpoint(ABOVE, HEIGHT - BELOW),
        chart.y,
        HEIGHT - BELOW,
        WIDTH - RIGHT,
    );
    for line in &chart.lines {
        let points = line.points.iter().map(|&(time, value)| format!("{:.1},{:.1} ", x(time), y(value)));
        text += &format!(
            "<polyline fill=\"none\" stroke=\"{}\" stroke-width=\"2\" stroke-linejoin=\"round\" points=\"{}\"/>\n",
            line.colour,
            points.collect::<String>().trim_end()
        );
    }
    text
}

/// The next of 1, 2 and 5 times a power of ten.
fn nice(step: f64) -> f64 {
    let power = 10_f64.powf(step.log10().floor());
    [1.0, 2.0, 5.0, 10.0]
        .into_iter()
        .map(|factor| factor * power)
        .find(|&nice| nice >= step * 0.999)
        .unwrap_or(step)
}

fn label(value: f64) -> String {
    match value {
        0.0 => "0".to_owned(),
        value if value >= 1e6 => format!("{} M", value / 1e6),
        value if value >= 1e3 => format!("{} k", value / 1e3),
        value if value < 10.0 => format!("{value:.1}"),
        value => value.to_string(),
    }
}
