//! The tensors of a file as the tree that their dotted names describe, with the bytes below every node.

use crate::formats::Checkpoint;
use serde::Serialize;

/// The tree of `checkpoint`; names that `wanted` refuses are left out.
pub fn tree(checkpoint: &Checkpoint, wanted: &dyn Fn(&str) -> bool) -> Node {
    let mut root = Node::group("model", "");
    for tensor in checkpoint.tensors().iter().filter(|t| wanted(&t.name)) {
        let leaf = Leaf {
            shape: tensor.tensor.shape.0.clone(),
            dtype: tensor.tensor.dtype.name(),
            layout: tensor.tensor.layout(),
            bytes: tensor.tensor.bytes.stored_len(),
        };
        root.insert(&tensor.name, &leaf);
    }
    root.sort();
    root
}

/// A group of tensors, or one tensor.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Node {
    /// The last part of the name.
    pub name: String,
    /// The whole name down to here.
    pub path: String,
    /// `group` or `tensor`.
    #[serde(rename = "type")]
    pub kind: &'static str,
    /// Bytes of the tensors here and below.
    pub total_size: usize,
    /// Tensors here and below.
    pub tensor_count: usize,
    /// Row-major, of a tensor.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub shape: Option<Vec<usize>>,
    /// Encoding, of a tensor.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dtype: Option<&'static str>,
    /// `tiled`, of a tensor in row tiles.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub layout: Option<&'static str>,
    /// Layers in numeric order, everything else in file order.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub children: Vec<Node>,
}

struct Leaf {
    shape: Vec<usize>,
    dtype: &'static str,
    layout: Option<&'static str>,
    bytes: usize,
}

impl Node {
    fn group(name: &str, path: &str) -> Node {
        Node {
            name: name.to_owned(),
            path: path.to_owned(),
            kind: "group",
            total_size: 0,
            tensor_count: 0,
            shape: None,
            dtype: None,
            layout: None,
            children: Vec::new(),
        }
    }

    /// The number of nodes directly below some group whose names are all numbers: the layers. 0 where no group is
    /// like that.
    pub fn layers(&self) -> usize {
        let numbered = |node: &Node| node.name.parse::<usize>().is_ok();
        let here = self.children.iter().filter(|child| numbered(child)).count();
        self.children.iter().map(Node::layers).max().unwrap_or(0).max(here)
    }

    fn insert(&mut self, rest: &str, leaf: &Leaf) {
        self.total_size += leaf.bytes;
        self.tensor_count += 1;
        let (first, below) = match rest.split_once('.') {
            Some((first, below)) => (first, Some(below)),
            None => (rest, None),
        };
        let path = if self.path.is_empty() { first.to_owned() } else { format!("{}.{first}", self.path) };
        let at = match self.children.iter().position(|child| child.name == first) {
            Some(at) => at,
            None => {
                self.children.push(Node::group(first, &path));
                self.children.len() - 1
            }
        };
        let child = &mut self.children[at];
        match below {
            Some(below) => child.insert(below, leaf),
            None => {
                child.kind = "tensor";
                child.total_size += leaf.bytes;
                child.tensor_count += 1;
                child.shape = Some(leaf.shape.clone());
                child.dtype = Some(leaf.dtype);
                child.layout = leaf.layout;
            }
        }
    }

    fn sort(&mut self) {
        // A stable sort by number keeps file order among the names that are none.
        self.children.sort_by_key(|child| child.name.parse::<usize>().ok());
        self.children.iter_mut().for_each(Node::sort);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::models::fixture::{Tiny, tensor, with_tensors};
    use crate::tensor::DType;

    #[test]
    fn sizes_add_up_and_layers_are_counted() {
        let file = Tiny::new("llama").gguf(DType::F16);
        let root = tree(&file, &|_| true);
        let bytes: usize = file.tensors().iter().map(|t| t.tensor.bytes.len()).sum();
        assert_eq!((root.total_size, root.tensor_count), (bytes, file.tensors().len()));
        assert_eq!(root.layers(), 2);
        let below: usize = root.children.iter().map(|c| c.total_size).sum();
        assert_eq!(below, bytes);
    }

    #[test]
    fn layer_ten_comes_after_layer_two() {
        let file = with_tensors(&Tiny::new("llama").gguf(DType::F32), |tensors| {
            for layer in [10, 9] {
                tensors.push(tensor(&format!("blk.{layer}.x"), DType::F32, [1].into(), &[1.0]));
            }
        });
        let root = tree(&file, &|name| name.starts_with("blk."));
        let names: Vec<_> = root.children[0].children.iter().map(|c| c.name.as_str()).collect();
        assert_eq!(names, ["0", "1", "9", "10"]);
        assert_eq!(root.children.len(), 1, "the rest is filtered out");
    }

    #[test]
    fn a_tensor_may_be_named_like_a_group() {
        let file = with_tensors(&Tiny::new("llama").gguf(DType::F32), |tensors| {
            tensors.clear();
            tensors.push(tensor("a", DType::F32, [1].into(), &[1.0]));
            tensors.push(tensor("a.b", DType::F32, [1].into(), &[1.0]));
        });
        let root = tree(&file, &|_| true);
        assert_eq!((root.total_size, root.children[0].total_size, root.children[0].tensor_count), (8, 8, 2));
    }
}
