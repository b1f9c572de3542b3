//! What becomes of each column, by its metric's schema.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use kumon_schema::{Field, FieldType, Function, MetricType, Schema};

use super::key::{self, Texts};
use crate::OTHER;

/// What becomes of a metric's rows, and of those of its histogram.
#[derive(Debug)]
pub(super) struct Plan {
    /// The metric whose rows are summed up.
    pub(super) metric: &'static str,
    pub(super) table: Table,
    pub(super) histogram: Option<Table>,
    pub(super) top: Option<Top>,
}

/// What becomes of the columns of one metric.
#[derive(Debug)]
pub(super) struct Table {
    /// The metric that has the sums.
    pub(super) coarse: &'static str,
    /// By column, in the order in which rows have them; the common ones are left out.
    pub(super) columns: Vec<Column>,
}

#[derive(Debug, Clone, Copy)]
pub(super) struct Column {
    pub(super) role: Role,
    /// Whether JSON has its values in quotes.
    pub(super) is_text: bool,
}

/// What becomes of a column.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Role {
    /// The sums have no such column.
    LeftOut,
    /// It tells rows apart.
    Key,
    /// It tells a histogram's buckets apart; the lower and the upper bound are numbers.
    Bucket,
    /// How long the row's interval was: the sum of them.
    Interval,
    Sum,
    Min,
    Max,
    /// Of a gauge: rounded where its numbers are whole.
    Mean {
        whole: bool,
    },
    /// That of the newest row.
    Last,
    /// Of the histogram of the 10 minutes.
    Percentile(u8),
}

/// The keys with a row of their own.
#[derive(Debug)]
pub(super) struct Top {
    /// The columns by which they are the largest.
    pub(super) by: Vec<usize>,
    /// That of the row of the others.
    pub(super) other: Texts,
}

/// Where a metric's rows belong.
pub(super) struct Place {
    pub(super) plan: &'static Plan,
    /// Whether they are the buckets.
    pub(super) is_histogram: bool,
}

impl Place {
    pub(super) fn table(&self) -> &'static Table {
        match &self.plan.histogram {
            Some(histogram) if self.is_histogram => histogram,
            _ => &self.plan.table,
        }
    }
}

/// Where the rows of a metric belong; nowhere where it has no rows by 10 minutes.
pub(super) fn place(metric: &str) -> Option<&'static Place> {
    static PLACES: LazyLock<BTreeMap<&str, Place>> = LazyLock::new(places);
    PLACES.get(metric)
}

fn places() -> BTreeMap<&'static str, Place> {
    let mut places = BTreeMap::new();
    let summed_up = kumon_schema::all().iter().filter(|schema| kumon_schema::coarse(&schema.name).is_some());
    for schema in summed_up.filter(|schema| schema.histogram_of.is_none()) {
        let histogram = kumon_schema::all().iter().find(|of| of.histogram_of.as_ref() == Some(&schema.name));
        let plan: &'static Plan = Box::leak(Box::new(Plan::new(schema, histogram)));
        places.insert(schema.name.as_str(), Place { plan, is_histogram: false });
        if let Some(histogram) = histogram {
            places.insert(histogram.name.as_str(), Place { plan, is_histogram: true });
        }
    }
    places
}

impl Plan {
    fn new(schema: &'static Schema, histogram: Option<&'static Schema>) -> Plan {
        let own = |field: &Field| schema.fields.iter().any(|of| of.ecs == field.ecs);
        Plan {
            metric: &schema.name,
            table: Table::new(schema, |_| false),
            histogram: histogram.map(|schema| Table::new(schema, |field| !own(field))),
            top: schema.top.as_ref().map(|top| Top::new(schema, top)),
        }
    }
}

impl Table {
    /// `is_bucket` tells of the columns that tell rows apart which of them tell buckets apart.
    fn new(schema: &Schema, is_bucket: impl Fn(&Field) -> bool) -> Table {
        let coarse = kumon_schema::coarse(&schema.name).expect("only metrics that have one are summed up");
        let column = |field: &Field| {
            let role = match role(field) {
                _ if !coarse.fields.iter().any(|of| of.ecs == field.ecs) => Role::LeftOut,
                Role::Key if is_bucket(field) => Role::Bucket,
                role => role,
            };
            Column { role, is_text: matches!(field.r#type, FieldType::String | FieldType::Datetime) }
        };
        Table { coarse: &coarse.name, columns: schema.own_fields().iter().map(column).collect() }
    }

    /// The columns of that role.
    pub(super) fn of_role(&self, role: Role) -> impl Iterator<Item = usize> {
        self.columns.iter().enumerate().filter(move |(_, column)| column.role == role).map(|(at, _)| at)
    }
}

fn role(field: &Field) -> Role {
    if field.meaning.is_last {
        return Role::Last;
    }
    if field.ecs == "kumon.interval" {
        return Role::Interval;
    }
    match (field.meaning.metric_type, field.meaning.statistic.as_ref().map(|statistic| statistic.function)) {
        (None, _) => Role::Key,
        (Some(_), Some(Function::Min)) => Role::Min,
        (Some(_), Some(Function::Max)) => Role::Max,
        (Some(_), Some(Function::Percentile(percent))) => Role::Percentile(percent),
        (Some(MetricType::Counter), _) => Role::Sum,
        (Some(MetricType::Gauge), _) => Role::Mean { whole: field.r#type == FieldType::Integer },
    }
}

impl Top {
    fn new(schema: &Schema, top: &kumon_schema::Top) -> Top {
        let fields = schema.own_fields();
        let place = |name: &String| fields.iter().position(|field| field.name == *name);
        let mut other = Vec::new();
        for field in fields.iter().filter(|field| is_key(schema, field)) {
            if top.other.contains(&field.name) {
                other.extend_from_slice(OTHER);
            }
            key::end_text(&mut other);
        }
        Top { by: top.by.iter().filter_map(place).collect(), other: other.into() }
    }
}

fn is_key(schema: &Schema, field: &Field) -> bool {
    let coarse = kumon_schema::coarse(&schema.name);
    role(field) == Role::Key && coarse.is_some_and(|of| of.fields.iter().any(|other| other.ecs == field.ecs))
}
