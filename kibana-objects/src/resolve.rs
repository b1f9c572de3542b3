//! From files to dashboards.

use std::collections::HashMap;
use std::path::PathBuf;

use serde_saphyr::{Location, Spanned};

use crate::catalog::{Catalog, Metric};
use crate::check::Checking;
use crate::error::{Mistake, SourceError, suggestion};
use crate::kibana::id_of_metric;
use crate::layout::{self, WIDTH};
use crate::model::{ChartKind, Content, Control, Dashboard, Link, Panel};
use crate::source::{DashboardSource, Kind, PanelSource};

/// A dashboard's file.
#[derive(Debug, Clone)]
pub struct SourceFile {
    /// Its name without the extension is the dashboard's.
    pub path: PathBuf,
    pub text: String,
}

/// Reads dashboards, which may link to each other.
///
/// # Errors
/// All mistakes in all files, each with its place.
pub fn read(files: &[SourceFile], catalog: &Catalog) -> Result<Vec<Dashboard>, Vec<SourceError>> {
    let (mut sources, mut errors) = (Vec::new(), Vec::new());
    for file in files {
        match parse(file) {
            Ok(source) => sources.push((file, source)),
            Err(mistake) => errors.push(mistake.within(&file.path)),
        }
    }
    let titles = sources.iter().map(|(_, (name, source))| (name.clone(), source.title.clone()));
    let titles: HashMap<String, String> = titles.collect();
    let mut dashboards = Vec::new();
    for (file, (name, source)) in sources {
        match (Resolving { catalog, titles: &titles }.dashboard(name, source)) {
            Ok(dashboard) => dashboards.push(dashboard),
            Err(mistakes) => errors.extend(mistakes.into_iter().map(|mistake| mistake.within(&file.path))),
        }
    }
    if errors.is_empty() { Ok(dashboards) } else { Err(errors) }
}

fn parse(file: &SourceFile) -> Result<(String, DashboardSource), Mistake> {
    let name = file.path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
    if name != id_of(&name) || name.is_empty() {
        let message = format!(
            "the file's name is the dashboard's: '{name}' must be lower-case letters, digits and hyphens"
        );
        return Err(Mistake::new(Location::UNKNOWN, message));
    }
    let source = serde_saphyr::from_str(&file.text).map_err(|e| Mistake::of_yaml(&e))?;
    Ok((name, source))
}

/// A text as an id: its letters and digits in lower-case words joined by hyphens.
pub(crate) fn id_of(text: &str) -> String {
    let lower = text.to_lowercase();
    let words = lower.split(|c: char| !c.is_ascii_alphanumeric()).filter(|word| !word.is_empty());
    words.collect::<Vec<_>>().join("-")
}

/// Stands in a text for the links to the saved searches of all metrics.
const SAVED_SEARCHES: &str = "{saved searches}";

struct Resolving<'a> {
    catalog: &'a Catalog,
    /// Of all dashboards, by name.
    titles: &'a HashMap<String, String>,
}

impl Resolving<'_> {
    fn dashboard(&self, name: String, source: DashboardSource) -> Result<Dashboard, Vec<Mistake>> {
        let mut mistakes = Vec::new();
        let controls = source.controls.into_iter().map(|control| self.control(control));
        let controls = keep(controls, &mut mistakes);
        let (mut ids, mut sizes) = (HashMap::new(), Vec::new());
        for panel in &source.panels {
            sizes.push(size(panel).unwrap_or_else(|mistake| {
                mistakes.push(mistake);
                (WIDTH, 1)
            }));
            let id = id_of(&panel.title.value);
            let place = panel.title.referenced;
            if id.is_empty() {
                mistakes.push(Mistake::new(place, "a title needs a letter or digit"));
            } else if let Some(line) = ids.insert(id, place.line()) {
                let message = format!("the title '{}' stands in line {line} already", panel.title.value);
                mistakes.push(Mistake::new(place, message));
            }
        }
        let places = layout::flow(&sizes);
        let panels = source.panels.into_iter().zip(places).map(|(panel, place)| {
            let (title, id) = (panel.title.value.clone(), id_of(&panel.title.value));
            Ok(Panel { id, title, place, content: self.content(panel)? })
        });
        let panels = keep(panels, &mut mistakes);
        if !mistakes.is_empty() {
            return Err(mistakes);
        }
        Ok(Dashboard { name, title: source.title, description: source.description, controls, panels })
    }

    /// A field that some metric has.
    fn control(&self, control: Spanned<String>) -> Result<Control, Mistake> {
        let field = control.value;
        let metrics = self.catalog.metrics();
        if metrics.iter().any(|metric| metric.has_values(&field)) {
            return Ok(Control { label: self.catalog.label(&field).into_owned(), field });
        }
        let columns = metrics.iter().flat_map(|metric| metric.columns());
        let dimensions = columns.filter(|column| column.meaning.metric_type.is_none());
        let near = suggestion(&field, dimensions.map(|column| column.ecs.as_str()));
        Err(Mistake::new(control.referenced, format!("no metric has a field '{field}' with values{near}")))
    }

    fn content(&self, panel: PanelSource) -> Result<Content, Mistake> {
        let checking = Checking { catalog: self.catalog, kind: panel.kind.value };
        checking.keys(&panel)?;
        match panel.kind.value {
            Kind::Markdown => {
                let text = checking.needed("text", panel.text, panel.kind.referenced)?;
                Ok(Content::Text(self.text(&text.value)))
            }
            Kind::Links => {
                let links = checking.needed("links", panel.links, panel.kind.referenced)?;
                let links = links.value.into_iter().map(|link| self.link(link));
                Ok(Content::Links(links.collect::<Result<_, _>>()?))
            }
            Kind::Rows => checking.rows(panel).map(Content::Rows),
            Kind::Chart(ChartKind::Table) if panel.metric.is_none() => {
                checking.joined(panel).map(Content::Joined)
            }
            Kind::Chart(kind) => checking.chart(kind, panel).map(Content::Chart),
        }
    }

    fn text(&self, text: &str) -> String {
        if !text.contains(SAVED_SEARCHES) {
            return text.to_owned();
        }
        // Without a time Discover would take one of its own; this is the one that dashboards begin with.
        let time = "?_g=(time:(from:now-1h,to:now))";
        let link =
            |metric: &Metric| format!("[{}](discover#/view/{}{time})", metric.name, id_of_metric(metric));
        let links: Vec<String> = self.catalog.events_first().into_iter().map(link).collect();
        text.replace(SAVED_SEARCHES, &links.join(",\n"))
    }

    fn link(&self, link: Spanned<String>) -> Result<Link, Mistake> {
        let dashboard = link.value;
        match self.titles.get(&dashboard) {
            Some(title) => Ok(Link { dashboard, label: title.clone() }),
            None => {
                let near = suggestion(&dashboard, self.titles.keys().map(String::as_str));
                Err(Mistake::new(link.referenced, format!("there is no dashboard '{dashboard}'{near}")))
            }
        }
    }
}

fn keep<T>(results: impl Iterator<Item = Result<T, Mistake>>, mistakes: &mut Vec<Mistake>) -> Vec<T> {
    results.filter_map(|result| result.map_err(|mistake| mistakes.push(mistake)).ok()).collect()
}

/// Width and height, by kind where the file gives none.
fn size(panel: &PanelSource) -> Result<(u32, u32), Mistake> {
    let (width, height) = match panel.kind.value {
        Kind::Chart(ChartKind::Number) => (3, 2),
        Kind::Chart(ChartKind::Line | ChartKind::Bar | ChartKind::Area | ChartKind::Pie) => (6, 4),
        Kind::Chart(ChartKind::Table) => (6, 5),
        Kind::Chart(ChartKind::HeatMap) => (12, 5),
        Kind::Rows => (12, 6),
        Kind::Markdown => (12, 2),
        Kind::Links => (12, 1),
    };
    let within = |given: &Option<Spanned<u32>>, usual: u32, most: u32, key: &str| match given {
        None => Ok(usual),
        Some(given) if (1..=most).contains(&given.value) => Ok(given.value),
        Some(given) => Err(Mistake::new(given.referenced, format!("{key} is 1 to {most}"))),
    };
    Ok((within(&panel.width, width, WIDTH, "width")?, within(&panel.height, height, 20, "height")?))
}
