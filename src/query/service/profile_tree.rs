//! What the snapshots of a segment say: trees of frames with how long each was seen (query spec 2.10).

use oap_proto::agent::ThreadStack;
use serde::Serialize;

/// One look at the thread.
#[derive(Debug, Clone, PartialEq)]
pub struct Snapshot {
    pub sequence: i64,
    /// Milliseconds since the epoch.
    pub dump_time: i64,
    pub stack: ThreadStack,
}

/// Frames that were reached from one first frame.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ProfileStackTree {
    /// Breadth first.
    pub elements: Vec<ProfileStackElement>,
}

/// A frame.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ProfileStackElement {
    /// From 1.
    pub id: String,
    /// `0` for the first frame.
    pub parent_id: String,
    pub code_signature: String,
    /// Milliseconds.
    pub duration: i64,
    pub duration_child_excluded: i64,
    /// Snapshots that show it.
    pub count: usize,
}

/// A frame while snapshots are added. Nodes are numbered, so that no stack is too deep.
#[derive(Debug)]
struct Node {
    code: String,
    children: Vec<usize>,
    /// Milliseconds of complete runs of snapshots without a gap.
    duration: i64,
    count: usize,
    /// Sequence and time of the last snapshot, and the time of the first of its run.
    run: (i64, i64, i64),
}

impl Node {
    fn new(code: &str, snapshot: &Snapshot) -> Node {
        let (sequence, time) = (snapshot.sequence, snapshot.dump_time);
        Node {
            code: code.to_owned(),
            children: vec![],
            duration: 0,
            count: 1,
            run: (sequence, time, time),
        }
    }

    fn add(&mut self, snapshot: &Snapshot) {
        let (sequence, time) = (snapshot.sequence, snapshot.dump_time);
        let (last, _, start) = self.run;
        self.count += 1;
        self.run = if sequence == last + 1 {
            (sequence, time, start)
        } else {
            self.duration = self.total();
            (sequence, time, time)
        };
    }

    fn total(&self) -> i64 {
        let (_, end, start) = self.run;
        self.duration.saturating_add(end.saturating_sub(start))
    }
}

/// Frames that are told apart; what is beyond is left out. Real code has some hundred in a request.
const MAX_NODES: usize = 50_000;

/// Trees that grow with each snapshot: one per distinct first frame.
#[derive(Debug, Default)]
pub struct Trees {
    nodes: Vec<Node>,
    roots: Vec<usize>,
    /// Snapshots of which frames were left out.
    cut: usize,
}

impl Trees {
    /// Adds a snapshot; they come by their sequence, each once.
    pub fn add(&mut self, snapshot: &Snapshot) {
        let mut parent: Option<usize> = None;
        for code in &snapshot.stack.code_signatures {
            let siblings = match parent {
                Some(parent) => &self.nodes[parent].children,
                None => &self.roots,
            };
            let found = siblings
                .iter()
                .copied()
                .find(|at| self.nodes[*at].code == *code);
            let at = match found {
                Some(at) => {
                    self.nodes[at].add(snapshot);
                    at
                }
                None if self.nodes.len() == MAX_NODES => {
                    self.cut += 1;
                    return;
                }
                None => self.grow(parent, Node::new(code, snapshot)),
            };
            parent = Some(at);
        }
    }

    fn grow(&mut self, parent: Option<usize>, node: Node) -> usize {
        let at = self.nodes.len();
        self.nodes.push(node);
        match parent {
            Some(parent) => self.nodes[parent].children.push(at),
            None => self.roots.push(at),
        }
        at
    }

    /// How many snapshots lack frames that found no room.
    pub fn cut(&self) -> usize {
        self.cut
    }

    /// What was seen.
    pub fn finished(&self) -> Vec<ProfileStackTree> {
        let roots = self.roots.iter();
        roots.map(|root| tree(&self.nodes, *root)).collect()
    }
}

fn tree(nodes: &[Node], root: usize) -> ProfileStackTree {
    let mut elements: Vec<ProfileStackElement> = vec![];
    // Node and id of its parent, in order of their ids.
    let mut queue = vec![(root, 0)];
    while let Some((at, parent)) = queue.get(elements.len()).copied() {
        let node = &nodes[at];
        let id = elements.len() + 1;
        let of_children = node.children.iter().map(|child| nodes[*child].total());
        let duration = node.total();
        elements.push(ProfileStackElement {
            id: id.to_string(),
            parent_id: parent.to_string(),
            code_signature: node.code.clone(),
            duration,
            duration_child_excluded: duration - of_children.sum::<i64>(),
            count: node.count,
        });
        queue.extend(node.children.iter().map(|child| (*child, id)));
    }
    ProfileStackTree { elements }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn trees(stacks: &[(i64, &str)]) -> Trees {
        let snapshot = |(sequence, stack): &(i64, &str)| Snapshot {
            sequence: *sequence,
            dump_time: 1000 + sequence * 10,
            stack: ThreadStack {
                code_signatures: stack.split_whitespace().map(str::to_owned).collect(),
            },
        };
        let mut trees = Trees::default();
        stacks.iter().for_each(|seen| trees.add(&snapshot(seen)));
        trees
    }

    #[test]
    fn frames_last_as_long_as_they_are_seen_without_a_gap() {
        let seen = [
            (0, "r a"),
            (1, "r a b"),
            (2, "r c"),
            (3, "x"),
            (4, "r a"),
            (5, "r a"),
            (6, ""),
        ];
        let trees = trees(&seen).finished();
        let lines: Vec<String> = trees
            .iter()
            .flat_map(|tree| &tree.elements)
            .map(|e| {
                let (of, own) = (e.duration, e.duration_child_excluded);
                format!(
                    "{}<{} {} {of} {own} {}",
                    e.id, e.parent_id, e.code_signature, e.count
                )
            })
            .collect();
        assert_eq!(
            lines,
            [
                "1<0 r 30 10 5",
                "2<1 a 20 20 4",
                "3<1 c 0 0 1",
                "4<2 b 0 0 1",
                "1<0 x 0 0 1"
            ]
        );
    }

    #[test]
    fn a_very_deep_stack_is_a_long_list_with_an_end() {
        let deep = "f ".repeat(MAX_NODES);
        let trees_of = |stack: &str| trees(&[(0, stack), (1, stack)]);
        let fits = trees_of(&deep);
        assert_eq!(fits.finished()[0].elements.len(), MAX_NODES);
        assert_eq!(fits.cut(), 0);
        let full = trees_of(&(deep + "f"));
        assert_eq!(full.finished()[0].elements.len(), MAX_NODES);
        assert!(full.cut() > 0);
    }
}
