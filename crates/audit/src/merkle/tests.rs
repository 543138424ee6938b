//! Against the vectors that the Certificate Transparency project publishes, and against the
//! recursive definitions of RFC 6962, written down as they stand there.

use proptest::prelude::*;

use super::*;

/// Leaves of the reference tree of the Certificate Transparency project
/// (`proof/verify_test.go` of github.com/transparency-dev/merkle).
const REFERENCE_LEAVES: [&str; 8] = [
    "",
    "00",
    "10",
    "2021",
    "3031",
    "40414243",
    "5051525354555657",
    "606162636465666768696a6b6c6d6e6f",
];

/// Its root with one to eight leaves (same source).
const REFERENCE_ROOTS: [&str; 8] = [
    "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
    "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
    "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
    "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
    "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
    "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
    "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
];

/// Index, size and path of inclusion proofs in it (same source, where leaves count from 1).
const REFERENCE_INCLUSION: [(u64, u64, &[&str]); 5] = [
    (0, 1, &[]),
    (
        0,
        8,
        &[
            "96a296d224f285c67bee93c30f8a309157f0daa35dc5b87e410b78630a09cfc7",
            "5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e",
            "6b47aaf29ee3c2af9af889bc1fb9254dabd31177f16232dd6aab035ca39bf6e4",
        ],
    ),
    (
        5,
        8,
        &[
            "bc1a0643b12e4d2d7c77918f44e0f4f79a838b6cf9ec5b5c283e1f4d88599e6b",
            "ca854ea128ed050b41b35ffc1b87b8eb2bde461e9e3b5596ece6b9d5975a0ae0",
            "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
        ],
    ),
    (
        2,
        3,
        &["fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125"],
    ),
    (
        1,
        5,
        &[
            "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
            "5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e",
            "bc1a0643b12e4d2d7c77918f44e0f4f79a838b6cf9ec5b5c283e1f4d88599e6b",
        ],
    ),
];

/// Sizes and path of consistency proofs in it (same source).
const REFERENCE_CONSISTENCY: [(u64, u64, &[&str]); 5] = [
    (1, 1, &[]),
    (
        1,
        8,
        &[
            "96a296d224f285c67bee93c30f8a309157f0daa35dc5b87e410b78630a09cfc7",
            "5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e",
            "6b47aaf29ee3c2af9af889bc1fb9254dabd31177f16232dd6aab035ca39bf6e4",
        ],
    ),
    (
        6,
        8,
        &[
            "0ebc5d3437fbe2db158b9f126a1d118e308181031d0a949f8dededebc558ef6a",
            "ca854ea128ed050b41b35ffc1b87b8eb2bde461e9e3b5596ece6b9d5975a0ae0",
            "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
        ],
    ),
    (
        2,
        5,
        &[
            "5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e",
            "bc1a0643b12e4d2d7c77918f44e0f4f79a838b6cf9ec5b5c283e1f4d88599e6b",
        ],
    ),
    (
        6,
        7,
        &[
            "0ebc5d3437fbe2db158b9f126a1d118e308181031d0a949f8dededebc558ef6a",
            "b08693ec2e721597130641e8211e7eedccb4c26413963eee6c1e2ed16ffb1a5f",
            "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
        ],
    ),
];

/// Every size up to this one is compared with the recursive definition.
const SIZES: usize = 300;
/// Every pair of sizes, and every leaf of every size, up to this one.
const PAIRS: usize = 96;

#[test]
fn roots_are_those_of_the_reference_tree() {
    let leaves = reference_leaves();
    assert_eq!(Frontier::new().root(), EMPTY_ROOT);
    let mut frontier = Frontier::new();
    for (leaf, expected) in leaves.iter().zip(REFERENCE_ROOTS) {
        frontier.push(*leaf);
        assert_eq!(hex(&frontier.root()), expected);
    }
}

#[test]
fn inclusion_proofs_are_those_of_the_reference_tree() {
    let leaves = reference_leaves();
    for (index, size, path) in REFERENCE_INCLUSION {
        let proof = InclusionProof::build(leaves.as_slice(), index, size).unwrap();
        assert_eq!(hexes(&proof.path), path);
        let root = naive_root(&leaves[..usize::try_from(size).unwrap()]);
        proof
            .verify(&leaves[usize::try_from(index).unwrap()], &root)
            .unwrap();
    }
}

#[test]
fn consistency_proofs_are_those_of_the_reference_tree() {
    let leaves = reference_leaves();
    for (old_size, new_size, path) in REFERENCE_CONSISTENCY {
        let proof = ConsistencyProof::build(leaves.as_slice(), old_size, new_size).unwrap();
        assert_eq!(hexes(&proof.path), path);
        let [old_root, new_root] =
            [old_size, new_size].map(|size| naive_root(&leaves[..usize::try_from(size).unwrap()]));
        proof.verify(&old_root, &new_root).unwrap();
    }
}

#[test]
fn frontier_has_the_root_of_the_recursive_definition_at_every_size() {
    let leaves = some_leaves(SIZES);
    let mut frontier = Frontier::new();
    for size in 0..=SIZES {
        assert_eq!(
            frontier.root(),
            naive_root(&leaves[..size]),
            "{size} leaves"
        );
        let restored = Frontier::from_peaks(frontier.size(), frontier.peaks().to_vec()).unwrap();
        assert_eq!(restored, frontier);
        if size < SIZES {
            frontier.push(leaves[size]);
        }
    }
}

#[test]
fn frontier_tells_each_complete_subtree_once_and_costs_one_hash_a_leaf() {
    let leaves = some_leaves(SIZES);
    let mut frontier = Frontier::new();
    let mut told = Vec::new();
    for leaf in &leaves {
        frontier.push_and_tell(*leaf, |level, index, hash| told.push((level, index, *hash)));
    }
    for (level, index, hash) in &told {
        assert_eq!(
            leaves.node(*level, *index).unwrap(),
            *hash,
            "{level} {index}"
        );
    }
    told.sort_unstable();
    told.dedup_by_key(|(level, index, _)| (*level, *index));
    let complete: usize = (0..usize::BITS).map(|level| SIZES >> level).sum();
    assert_eq!(told.len(), complete);
    assert!(
        complete <= 2 * SIZES,
        "one for the leaf, fewer than one above it"
    );
}

#[test]
fn frontier_with_a_wrong_number_of_peaks_is_refused() {
    let error = Frontier::from_peaks(5, vec![[0; 32]]).unwrap_err();
    assert_eq!(
        error.to_string(),
        "the frontier of a tree of 5 leaves has 2 hashes, not 1"
    );
}

#[test]
fn inclusion_proofs_are_those_of_the_recursive_definition() {
    let leaves = some_leaves(PAIRS);
    for size in 1..=PAIRS {
        let root = naive_root(&leaves[..size]);
        for index in 0..size {
            let proof =
                InclusionProof::build(leaves.as_slice(), index as u64, size as u64).unwrap();
            assert_eq!(
                proof.path,
                naive_path(index, &leaves[..size]),
                "{index} of {size}"
            );
            proof.verify(&leaves[index], &root).unwrap();
        }
    }
}

#[test]
fn consistency_proofs_are_those_of_the_recursive_definition() {
    let leaves = some_leaves(PAIRS);
    let roots: Vec<Hash> = (0..=PAIRS)
        .map(|size| naive_root(&leaves[..size]))
        .collect();
    for new in 0..=PAIRS {
        for old in 0..=new {
            let proof = ConsistencyProof::build(leaves.as_slice(), old as u64, new as u64).unwrap();
            let expected = match old {
                0 => Vec::new(),
                old => naive_subproof(old, &leaves[..new], true),
            };
            assert_eq!(proof.path, expected, "{old} in {new}");
            proof.verify(&roots[old], &roots[new]).unwrap();
        }
    }
}

#[test]
fn every_wrong_inclusion_proof_is_refused() {
    let leaves = some_leaves(40);
    let roots: Vec<Hash> = (0..=40).map(|size| naive_root(&leaves[..size])).collect();
    for (size, root) in roots.iter().enumerate().skip(1) {
        for index in 0..size {
            let good = InclusionProof::build(leaves.as_slice(), index as u64, size as u64).unwrap();
            let refuse = |proof: &InclusionProof, leaf: &Hash, root: &Hash| {
                assert!(proof.verify(leaf, root).is_err(), "{proof:?} is no proof");
            };
            refuse(&good, &flip(leaves[index]), root);
            refuse(&good, &leaves[index], &flip(*root));
            for other in (0..size).filter(|other| *other != index) {
                let index = other as u64;
                refuse(
                    &InclusionProof {
                        index,
                        ..good.clone()
                    },
                    &leaves[good.index as usize],
                    root,
                );
                refuse(&good, &leaves[other], root);
            }
            for path in wrong_paths(&good.path, root) {
                refuse(
                    &InclusionProof {
                        path,
                        ..good.clone()
                    },
                    &leaves[index],
                    root,
                );
            }
            for beyond in [size as u64, u64::MAX] {
                refuse(
                    &InclusionProof {
                        index: beyond,
                        ..good.clone()
                    },
                    &leaves[index],
                    root,
                );
            }
            refuse(
                &InclusionProof {
                    size: 0,
                    ..good.clone()
                },
                &leaves[index],
                root,
            );
        }
    }
}

#[test]
fn every_wrong_consistency_proof_is_refused() {
    let leaves = some_leaves(40);
    let roots: Vec<Hash> = (0..=40).map(|size| naive_root(&leaves[..size])).collect();
    for new in 0..=40 {
        for old in 0..=new {
            let good = ConsistencyProof::build(leaves.as_slice(), old as u64, new as u64).unwrap();
            let refuse = |proof: &ConsistencyProof, old_root: &Hash, new_root: &Hash| {
                assert!(
                    proof.verify(old_root, new_root).is_err(),
                    "{proof:?} is no proof"
                );
            };
            refuse(&good, &flip(roots[old]), &roots[new]);
            if old > 0 {
                // Nothing ties an empty tree to what follows, so any new root follows it.
                refuse(&good, &roots[old], &flip(roots[new]));
                refuse(&good, &roots[old - 1], &roots[new]);
            }
            for path in wrong_paths(&good.path, &roots[old]) {
                refuse(
                    &ConsistencyProof {
                        path,
                        ..good.clone()
                    },
                    &roots[old],
                    &roots[new],
                );
            }
            for other in (0..=new).filter(|other| *other != old) {
                let old_size = other as u64;
                refuse(
                    &ConsistencyProof {
                        old_size,
                        ..good.clone()
                    },
                    &roots[old],
                    &roots[new],
                );
            }
            refuse(
                &ConsistencyProof {
                    old_size: new as u64 + 1,
                    ..good.clone()
                },
                &roots[old],
                &roots[new],
            );
        }
    }
}

#[test]
fn proofs_that_cannot_be_made_say_why() {
    let leaves = some_leaves(5);
    let cases = [
        (
            InclusionProof::build(leaves.as_slice(), 5, 5).unwrap_err(),
            "leaf 5 is not in a tree of 5 leaves",
        ),
        (
            InclusionProof::build(leaves.as_slice(), 0, 8).unwrap_err(),
            "cannot read the hashes of the tree: subtree 1 of level 2 does not lie within 5 leaves",
        ),
        (
            ConsistencyProof::build(leaves.as_slice(), 4, 3).unwrap_err(),
            "a tree of 4 leaves is not the beginning of one of 3",
        ),
    ];
    for (error, expected) in cases {
        assert_eq!(error.to_string(), expected);
    }
}

/// A tree whose nodes are all alike, so that trees of any size can be walked.
struct Uniform;

impl Nodes for Uniform {
    fn node(&self, level: u32, _index: u64) -> io::Result<Hash> {
        Ok((0..level).fold([7; 32], |below, _| node_hash(&below, &below)))
    }
}

/// Frontier of the tree of this many such leaves.
fn uniform(size: u64) -> Frontier {
    let peaks = (0..u64::BITS).rev().filter(|level| size >> level & 1 == 1);
    let peaks = peaks.map(|level| Uniform.node(level, 0).unwrap()).collect();
    Frontier::from_peaks(size, peaks).unwrap()
}

proptest! {
    #[test]
    fn proofs_hold_in_trees_of_any_size(new in 1_u64.., a: u64, b: u64) {
        let (index, old) = (a % new, b % new + 1);
        let root = uniform(new).root();
        let proof = InclusionProof::build(&Uniform, index, new).unwrap();
        proof.verify(&[7; 32], &root).unwrap();
        prop_assert!(proof.path.len() < PATH_HASHES_MAX);
        prop_assert!(proof.verify(&[8; 32], &root).is_err());
        let proof = ConsistencyProof::build(&Uniform, old, new).unwrap();
        proof.verify(&uniform(old).root(), &root).unwrap();
        prop_assert!(proof.path.len() <= PATH_HASHES_MAX);
        prop_assert!(proof.verify(&[8; 32], &root).is_err());
    }

    #[test]
    fn arbitrary_proofs_never_panic(
        a: u64,
        b: u64,
        path in prop::collection::vec(any::<Hash>(), 0..70),
        root: Hash,
    ) {
        let proof = InclusionProof { index: a, size: b, path: path.clone() };
        prop_assert!(proof.verify(&root, &EMPTY_ROOT).is_err());
        let proof = ConsistencyProof { old_size: a, new_size: b, path };
        prop_assert!(proof.verify(&root, &EMPTY_ROOT).is_err());
    }
}

/// MTH of RFC 6962, section 2.1.
fn naive_root(leaves: &[Hash]) -> Hash {
    match leaves {
        [] => EMPTY_ROOT,
        [leaf] => *leaf,
        _ => {
            let (left, right) = leaves.split_at(split(leaves.len()));
            node_hash(&naive_root(left), &naive_root(right))
        }
    }
}

/// PATH of RFC 6962, section 2.1.1.
fn naive_path(index: usize, leaves: &[Hash]) -> Vec<Hash> {
    if leaves.len() == 1 {
        return Vec::new();
    }
    let half = split(leaves.len());
    let (left, right) = leaves.split_at(half);
    let (mut path, sibling) = if index < half {
        (naive_path(index, left), naive_root(right))
    } else {
        (naive_path(index - half, right), naive_root(left))
    };
    path.push(sibling);
    path
}

/// SUBPROOF of RFC 6962, section 2.1.2.
fn naive_subproof(old: usize, leaves: &[Hash], is_whole: bool) -> Vec<Hash> {
    if old == leaves.len() {
        return if is_whole {
            Vec::new()
        } else {
            vec![naive_root(leaves)]
        };
    }
    let half = split(leaves.len());
    let (left, right) = leaves.split_at(half);
    let (mut path, sibling) = if old <= half {
        (naive_subproof(old, left, is_whole), naive_root(right))
    } else {
        (naive_subproof(old - half, right, false), naive_root(left))
    };
    path.push(sibling);
    path
}

/// The largest power of two that is smaller than this.
fn split(leaves: usize) -> usize {
    leaves.next_power_of_two() / 2
}

/// Paths that differ from the right one in one place.
fn wrong_paths(path: &[Hash], root: &Hash) -> Vec<Vec<Hash>> {
    let mut wrong = Vec::new();
    for place in 0..path.len() {
        let mut changed = path.to_vec();
        changed[place] = flip(changed[place]);
        wrong.push(changed);
        let mut shorter = path.to_vec();
        shorter.remove(place);
        wrong.push(shorter);
        if place > 0 {
            let mut swapped = path.to_vec();
            swapped.swap(place - 1, place);
            wrong.push(swapped);
        }
    }
    for place in 0..=path.len() {
        for added in [*root, EMPTY_ROOT] {
            let mut longer = path.to_vec();
            longer.insert(place, added);
            wrong.push(longer);
        }
    }
    wrong
}

fn flip(mut hash: Hash) -> Hash {
    hash[11] ^= 4;
    hash
}

fn some_leaves(count: usize) -> Vec<Hash> {
    (0..count)
        .map(|place| leaf_hash(&place.to_be_bytes()))
        .collect()
}

fn reference_leaves() -> Vec<Hash> {
    let bytes = REFERENCE_LEAVES.map(|leaf| {
        let digits = leaf.as_bytes().chunks(2);
        let bytes =
            digits.map(|pair| u8::from_str_radix(str::from_utf8(pair).unwrap(), 16).unwrap());
        leaf_hash(&bytes.collect::<Vec<_>>())
    });
    bytes.to_vec()
}

fn hexes(hashes: &[Hash]) -> Vec<String> {
    hashes.iter().map(|hash| hex(hash)).collect()
}
