use std::{any::type_name, fmt};

use crate::Name;

/// What a flow looks like: `Display` draws it as a tree, [`mermaid`](Self::mermaid) as a flowchart.
///
/// ```
/// use flumen_flow::{Task, parallel, task};
///
/// let fetch = |name| task(|_, n: u32| async move { Ok(n) }).named(name);
/// let flow = parallel((fetch("left"), fetch("right"))).then(|_, (l, r)| async move { Ok(l + r) });
/// assert!(flow.sketch().to_string().contains("left"));
/// assert!(flow.sketch().mermaid().starts_with("flowchart TD"));
/// ```
#[derive(Clone, Debug)]
pub struct Sketch {
    kind: Kind,
}

#[derive(Clone, Debug)]
enum Kind {
    Task(Name),
    Series(Vec<Sketch>),
    Pipe(Box<[Sketch; 2]>),
    Parallel(Name, Vec<Sketch>),
    Choice(Name, Vec<(String, Sketch)>),
    Repeat(Name, Box<Sketch>),
    Wrap(Name, Box<Sketch>),
    Module(Name, Box<Sketch>),
    Graph(Vec<Sketch>, Vec<(usize, usize)>),
}

impl From<Kind> for Sketch {
    fn from(kind: Kind) -> Self {
        Self { kind }
    }
}

impl Sketch {
    /// A task by its name.
    pub fn task(name: impl Into<Name>) -> Self {
        Kind::Task(name.into()).into()
    }

    /// A task by the name of its function, or of the function that its closure stands in.
    pub(crate) fn task_of_type<T: ?Sized>() -> Self {
        let path = type_name::<T>();
        let path = path.split('<').next().unwrap_or(path);
        let name = path.rsplit("::").find(|part| !part.starts_with('{')).unwrap_or(path);
        Self::task(if path.ends_with('}') { format!("closure in {name}") } else { name.to_owned() })
    }

    pub(crate) fn series(parts: impl IntoIterator<Item = Sketch>) -> Self {
        let flat = parts.into_iter().flat_map(|part| match part.kind {
            Kind::Series(inner) => inner,
            kind => vec![kind.into()],
        });
        Kind::Series(flat.collect()).into()
    }

    pub(crate) fn pipe(first: Sketch, second: Sketch) -> Self {
        Kind::Pipe(Box::new([first, second])).into()
    }

    pub(crate) fn parallel(rule: impl Into<Name>, branches: Vec<Sketch>) -> Self {
        Kind::Parallel(rule.into(), branches).into()
    }

    pub(crate) fn choice<K: Into<String>>(
        label: impl Into<Name>,
        cases: impl IntoIterator<Item = (K, Sketch)>,
    ) -> Self {
        Kind::Choice(label.into(), cases.into_iter().map(|(key, case)| (key.into(), case)).collect()).into()
    }

    pub(crate) fn repeat(rule: impl Into<Name>, body: Sketch) -> Self {
        Kind::Repeat(rule.into(), Box::new(body)).into()
    }

    pub(crate) fn wrap(label: impl Into<Name>, body: Sketch) -> Self {
        Kind::Wrap(label.into(), Box::new(body)).into()
    }

    pub(crate) fn module(name: Name, body: Sketch) -> Self {
        Kind::Module(name, Box::new(body)).into()
    }

    pub(crate) fn graph(nodes: Vec<Sketch>, edges: Vec<(usize, usize)>) -> Self {
        Kind::Graph(nodes, edges).into()
    }

    pub(crate) fn named(self, name: &Name) -> Self {
        match self.kind {
            Kind::Task(_) => Self::task(name.clone()),
            kind => Self::module(name.clone(), kind.into()),
        }
    }

    /// A flowchart in the language of [Mermaid](https://mermaid.js.org).
    pub fn mermaid(&self) -> String {
        let mut chart = Chart { text: "flowchart TD\n".to_owned(), nodes: 0, indent: 1 };
        chart.draw(self);
        chart.text
    }

    /// The line for this part, and the parts below it with what leads to each.
    fn lines(&self) -> (String, Vec<(String, &Sketch)>) {
        match &self.kind {
            Kind::Task(name) => (name.to_string(), Vec::new()),
            Kind::Series(parts) => ("series".to_owned(), unlabelled(parts)),
            Kind::Pipe(stages) => ("pipe".to_owned(), unlabelled(&**stages)),
            Kind::Parallel(rule, branches) => (format!("parallel ({rule})"), unlabelled(branches)),
            Kind::Choice(label, cases) => {
                (label.to_string(), cases.iter().map(|(key, case)| (format!("{key}: "), case)).collect())
            }
            Kind::Repeat(rule, body) => (format!("repeat ({rule})"), vec![(String::new(), &**body)]),
            Kind::Wrap(label, body) => (label.to_string(), vec![(String::new(), &**body)]),
            Kind::Module(name, body) => (format!("{name}:"), vec![(String::new(), &**body)]),
            Kind::Graph(nodes, edges) => {
                let needs = |to: usize| {
                    let from: Vec<String> = edges
                        .iter()
                        .filter(|(_, end)| *end == to)
                        .map(|(start, _)| nodes[*start].lines().0)
                        .collect();
                    if from.is_empty() { String::new() } else { format!("after {}: ", from.join(", ")) }
                };
                ("graph".to_owned(), nodes.iter().enumerate().map(|(at, node)| (needs(at), node)).collect())
            }
        }
    }

    fn draw(&self, f: &mut fmt::Formatter<'_>, lead: &str, below: &str) -> fmt::Result {
        let (line, parts) = self.lines();
        writeln!(f, "{lead}{line}")?;
        let count = parts.len();
        for (at, (label, part)) in parts.into_iter().enumerate() {
            let (branch, trunk) = if at + 1 == count { ("└ ", "  ") } else { ("├ ", "│ ") };
            part.draw(f, &format!("{below}{branch}{label}"), &format!("{below}{trunk}"))?;
        }
        Ok(())
    }
}

fn unlabelled(parts: &[Sketch]) -> Vec<(String, &Sketch)> {
    parts.iter().map(|part| (String::new(), part)).collect()
}

impl fmt::Display for Sketch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.draw(f, "", "")
    }
}

/// A flowchart in the making.
struct Chart {
    text: String,
    nodes: usize,
    indent: usize,
}

/// The nodes where a part begins and ends.
type Ends = (usize, usize);

impl Chart {
    fn line(&mut self, line: &str) {
        self.text.push_str(&"    ".repeat(self.indent));
        self.text.push_str(line);
        self.text.push('\n');
    }

    fn node(&mut self, open: &str, label: &str, close: &str) -> usize {
        let id = self.nodes;
        self.nodes += 1;
        let label = label.replace('"', "#quot;").replace('\n', " ");
        self.line(&format!("n{id}{open}\"{label}\"{close}"));
        id
    }

    fn edge(&mut self, from: usize, to: usize) {
        self.line(&format!("n{from} --> n{to}"));
    }

    fn labelled(&mut self, from: usize, label: &str, to: usize) {
        let label = label.replace('"', "#quot;").replace('|', "/");
        self.line(&format!("n{from} -->|\"{label}\"| n{to}"));
    }

    fn draw(&mut self, sketch: &Sketch) -> Ends {
        match &sketch.kind {
            Kind::Task(name) => {
                let id = self.node("[", name, "]");
                (id, id)
            }
            Kind::Series(parts) => self.chain(parts, " --> "),
            Kind::Pipe(stages) => self.chain(&**stages, " ==>|frames| "),
            Kind::Parallel(rule, branches) => {
                let fork = self.node("{{", &format!("parallel: {rule}"), "}}");
                let join = self.node("((", "join", "))");
                for branch in branches {
                    let (first, last) = self.draw(branch);
                    self.edge(fork, first);
                    self.edge(last, join);
                }
                (fork, join)
            }
            Kind::Choice(label, cases) => {
                let question = self.node("{", label, "}");
                let join = self.node("((", "end", "))");
                for (key, case) in cases {
                    let (first, last) = self.draw(case);
                    self.labelled(question, key, first);
                    self.edge(last, join);
                }
                (question, join)
            }
            Kind::Repeat(rule, body) => {
                let (first, last) = self.boxed(&format!("repeat: {rule}"), body);
                self.labelled(last, "again", first);
                (first, last)
            }
            Kind::Wrap(label, body) => self.boxed(label, body),
            Kind::Module(name, body) => self.boxed(name, body),
            Kind::Graph(nodes, edges) => self.graph(nodes, edges),
        }
    }

    fn boxed(&mut self, label: &str, body: &Sketch) -> Ends {
        let id = self.nodes;
        self.nodes += 1;
        self.line(&format!("subgraph s{id}[\"{}\"]", label.replace('"', "#quot;")));
        self.indent += 1;
        let ends = self.draw(body);
        self.indent -= 1;
        self.line("end");
        ends
    }

    fn chain(&mut self, parts: &[Sketch], arrow: &str) -> Ends {
        let mut ends: Option<Ends> = None;
        for part in parts {
            let (first, last) = self.draw(part);
            if let Some((_, before)) = ends {
                self.line(&format!("n{before}{arrow}n{first}"));
            }
            ends = Some((ends.map_or(first, |(start, _)| start), last));
        }
        ends.unwrap_or_else(|| {
            let id = self.node("[", "nothing", "]");
            (id, id)
        })
    }

    fn graph(&mut self, nodes: &[Sketch], edges: &[(usize, usize)]) -> Ends {
        let start = self.node("((", "start", "))");
        let end = self.node("((", "end", "))");
        let drawn: Vec<Ends> = nodes.iter().map(|node| self.draw(node)).collect();
        for &(from, to) in edges {
            self.edge(drawn[from].1, drawn[to].0);
        }
        for (at, &(first, last)) in drawn.iter().enumerate() {
            if edges.iter().all(|&(_, to)| to != at) {
                self.edge(start, first);
            }
            if edges.iter().all(|&(from, _)| from != at) {
                self.edge(last, end);
            }
        }
        (start, end)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn flow() -> Sketch {
        let [a, b, c] = ["a", "say \"b\"", "c"].map(Sketch::task);
        Sketch::series([a, Sketch::series([Sketch::parallel("all", vec![b, c])])])
    }

    #[test]
    fn tree_is_drawn() {
        assert_eq!(flow().to_string(), "series\n├ a\n└ parallel (all)\n  ├ say \"b\"\n  └ c\n");
    }

    #[test]
    fn flowchart_quotes_labels_and_joins_branches() {
        let chart = flow().mermaid();
        assert!(chart.contains("n3[\"say #quot;b#quot;\"]"), "{chart}");
        assert!(chart.contains("n1 --> n3") && chart.contains("n3 --> n2"), "{chart}");
    }
}
