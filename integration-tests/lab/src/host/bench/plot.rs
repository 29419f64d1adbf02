// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! SVG line charts: logarithmic where the figures span decades.

use std::io;
use std::path::Path;

use anyhow::{Result, anyhow};
use plotters::coord::ranged1d::{AsRangedCoord, ValueFormatter};
use plotters::prelude::*;

/// A named line.
pub struct Line {
    /// For the legend.
    pub name: String,
    /// Its points, in order of x.
    pub points: Vec<(f64, f64)>,
}

/// How an axis runs.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Scale {
    /// By value.
    Linear,
    /// By powers; what is not above 0 is left out.
    Log,
    /// The same with marks at the powers of two.
    Doubling,
}

/// A corner of a chart.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Corner {
    /// For lines that rise.
    UpperLeft,
    /// For lines that have risen early.
    LowerRight,
}

/// A chart.
pub struct Chart<'a> {
    /// Above it.
    pub title: &'a str,
    /// What x is, with its unit.
    pub x: &'a str,
    /// What y is, with its unit.
    pub y: &'a str,
    /// How x runs.
    pub x_scale: Scale,
    /// How y runs.
    pub y_scale: Scale,
    /// Where the lines leave room for their names.
    pub legend: Corner,
    /// Two sentences for below it: what is seen, and why it is so.
    pub caption: &'a str,
    /// What is drawn.
    pub lines: Vec<Line>,
}

const SIZE: (u32, u32) = (860, 480);

/// A line with more points has no mark at each.
const MANY: usize = 30;

/// Told apart also without colour vision (Okabe and Ito's palette).
const COLOURS: [RGBColor; 8] = [
    RGBColor(213, 94, 0),
    RGBColor(0, 114, 178),
    RGBColor(230, 159, 0),
    RGBColor(86, 180, 233),
    RGBColor(0, 158, 115),
    RGBColor(204, 121, 167),
    RGBColor(0, 0, 0),
    RGBColor(130, 130, 130),
];

impl Chart<'_> {
    /// Draws it.
    pub fn write(&self, path: &Path) -> Result<()> {
        let shown = |(x, y): &(f64, f64)| {
            let fits = |value: f64, scale| scale == Scale::Linear || value > 0.0;
            fits(*x, self.x_scale) && fits(*y, self.y_scale)
        };
        let lines: Vec<(&str, Vec<(f64, f64)>)> = self
            .lines
            .iter()
            .map(|line| {
                let points = line.points.iter().copied().filter(shown).collect();
                (line.name.as_str(), points)
            })
            .collect();
        let all = || lines.iter().flat_map(|(_, points)| points);
        if all().next().is_none() {
            return Err(anyhow!("{}: nothing to draw", path.display()));
        }
        let x = bounds(all().map(|point| point.0), self.x_scale);
        let y = bounds(all().map(|point| point.1), self.y_scale);
        let drawn = match self.x_scale {
            Scale::Linear => self.draw_over(path, &lines, x.0..x.1, y),
            Scale::Log => self.draw_over(path, &lines, (x.0..x.1).log_scale(), y),
            Scale::Doubling => self.draw_over(path, &lines, (x.0..x.1).log_scale().base(2.0), y),
        };
        drawn.map_err(|error| anyhow!("{}: {error}", path.display()))
    }

    fn draw_over<X>(
        &self,
        path: &Path,
        lines: &[(&str, Vec<(f64, f64)>)],
        x: X,
        y: (f64, f64),
    ) -> Result<(), String>
    where
        X: AsRangedCoord<Value = f64>,
        X::CoordDescType: ValueFormatter<f64>,
    {
        match self.y_scale {
            Scale::Linear => self.draw(path, lines, x, y.0..y.1),
            Scale::Log => self.draw(path, lines, x, (y.0..y.1).log_scale()),
            Scale::Doubling => self.draw(path, lines, x, (y.0..y.1).log_scale().base(2.0)),
        }
    }

    fn draw<X, Y>(
        &self,
        path: &Path,
        lines: &[(&str, Vec<(f64, f64)>)],
        x: X,
        y: Y,
    ) -> Result<(), String>
    where
        X: AsRangedCoord<Value = f64>,
        Y: AsRangedCoord<Value = f64>,
        X::CoordDescType: ValueFormatter<f64>,
        Y::CoordDescType: ValueFormatter<f64>,
    {
        let text = |error: DrawingAreaErrorKind<io::Error>| error.to_string();
        let area = SVGBackend::new(path, SIZE).into_drawing_area();
        area.fill(&WHITE).map_err(text)?;
        let mut chart = ChartBuilder::on(&area)
            .caption(self.title, ("sans-serif", 20))
            .margin(12)
            .x_label_area_size(44)
            .y_label_area_size(64)
            .build_cartesian_2d(x, y)
            .map_err(text)?;
        chart
            .configure_mesh()
            .x_desc(self.x)
            .y_desc(self.y)
            .x_label_formatter(&|value| number(*value))
            .y_label_formatter(&|value| number(*value))
            .light_line_style(WHITE)
            .label_style(("sans-serif", 14))
            .draw()
            .map_err(text)?;
        for ((name, points), colour) in lines.iter().zip(COLOURS.iter().cycle()) {
            let style = colour.stroke_width(2);
            // Many points are a curve of their own.
            let marks = if points.len() > MANY { 0 } else { 3 };
            let drawn = chart
                .draw_series(LineSeries::new(points.iter().copied(), style).point_size(marks))
                .map_err(text)?;
            drawn
                .label(*name)
                .legend(move |(x, y)| PathElement::new([(x, y), (x + 22, y)], style));
        }
        chart
            .configure_series_labels()
            .position(match self.legend {
                Corner::UpperLeft => SeriesLabelPosition::UpperLeft,
                Corner::LowerRight => SeriesLabelPosition::LowerRight,
            })
            .background_style(WHITE.mix(0.85))
            .border_style(BLACK.mix(0.3))
            .label_font(("sans-serif", 14))
            .draw()
            .map_err(text)?;
        area.present().map_err(text)
    }
}

/// From a little below the least to a little above the most; a linear axis begins at 0.
fn bounds(values: impl Iterator<Item = f64>, scale: Scale) -> (f64, f64) {
    let (least, most) = values.fold((f64::MAX, f64::MIN), |(least, most), value| {
        (least.min(value), most.max(value))
    });
    match scale {
        Scale::Linear => (0.0, if most > 0.0 { most * 1.05 } else { 1.0 }),
        Scale::Log | Scale::Doubling => (least / 1.15, most * 1.15),
    }
}

/// Short, without a fraction where it says nothing.
fn number(value: f64) -> String {
    if value >= 10.0 {
        format!("{value:.0}")
    } else {
        let text = format!("{value:.2}");
        text.trim_end_matches('0').trim_end_matches('.').to_owned()
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn chart(lines: Vec<Line>) -> Chart<'static> {
        Chart {
            title: "A title",
            x: "threads",
            y: "fsync/s",
            x_scale: Scale::Log,
            y_scale: Scale::Linear,
            legend: Corner::UpperLeft,
            caption: "It rises. It is a test.",
            lines,
        }
    }

    #[test]
    fn a_chart_has_its_words_and_its_lines() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x.svg");
        let line = |name: &str| Line {
            name: name.to_owned(),
            points: vec![(1.0, 3.0), (2.0, 4.0), (0.0, 9.0)],
        };
        chart(vec![line("one side"), line("the other")])
            .write(&path)
            .unwrap();
        let text = fs::read_to_string(&path).unwrap();
        for words in ["A title", "threads", "fsync/s", "one side", "the other"] {
            assert!(text.contains(words), "{words}");
        }
        assert!(text.matches("<polyline").count() >= 2);
    }

    #[test]
    fn nothing_to_draw_is_said() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x.svg");
        let error = chart(Vec::new()).write(&path).unwrap_err().to_string();
        assert!(error.contains("nothing to draw"), "{error}");
    }

    #[test]
    fn numbers_are_short() {
        assert_eq!(number(1000.0), "1000");
        assert_eq!(number(0.5), "0.5");
        assert_eq!(number(2.0), "2");
        assert_eq!(number(2.000_000_1), "2");
        assert_eq!(number(0.0), "0");
    }
}
