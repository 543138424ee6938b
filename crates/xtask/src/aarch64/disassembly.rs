//! Whether the machine code of the products is what their source wants: each one's inner loop multiplies in vectors, and
//! in nothing else.
//!
//! A block of 32 columns and sixteen rows is 32 `sdot` a token. A loop with as many, and no call, no load of single
//! bytes, no arithmetic of single floats and no multiplication of single integers but that of an address beside them,
//! leaves no product to a fallback.
//!
//! Kernels are found by the names of their functions, for each of [`FORMATS`]: a format without a kernel, or
//! one that the compiler did not turn into a loop of vectors, fails the check.

use std::collections::BTreeMap;
use std::io::Write;

use anyhow::{Context, Result, bail, ensure};

use super::cycles::{Model, VERSION_MIN};

/// What all kernels of the instruction set are entered by.
const ENTER: &str = "postern_kernels::isa::neon::enter::<postern_kernels::matmul::";
/// All formats of the kernels, and whether a weight of theirs is a number of its own. Listed again, because this program is
/// built before anything else and must not wait for the kernels.
const FORMATS: [(&str, bool); 14] = [
    ("F32", true),
    ("F16", true),
    ("BF16", true),
    ("Q4_0", false),
    ("Q4_1", false),
    ("Q5_0", false),
    ("Q5_1", false),
    ("Q8_0", false),
    ("IQ4_NL", false),
    ("Q2_K", false),
    ("Q3_K", false),
    ("Q4_K", false),
    ("Q5_K", false),
    ("Q6_K", false),
];
/// Tokens that are multiplied with codes as they come from memory, and those of a tile where there are more.
const FEW_WIDTHS: [usize; 2] = [1, 2];
const MANY_WIDTH: usize = 4;
/// Products of one `sdot`, and of one `fmla` of four floats.
const SDOT_PRODUCTS: usize = 16;
const FMLA_PRODUCTS: usize = 4;
/// Products of a block of 32 columns and sixteen rows, for one token.
const BLOCK_PRODUCTS: usize = 32 * 16;
/// Products of a column of sixteen rows, for one token.
const COLUMN_PRODUCTS: usize = 16;

/// Where a block's scales lie, and its codes, are multiples of their sizes.
const ADDRESS_MULTIPLIES_MAX: usize = 2;

/// One instruction, as a disassembler writes it.
#[derive(Debug)]
pub(super) struct Instruction<'a> {
    address: u64,
    pub(super) operation: &'a str,
    pub(super) operands: &'a str,
}

/// The functions of a listing, by name.
type Functions<'a> = BTreeMap<&'a str, Vec<Instruction<'a>>>;

/// Checks all formats' products in a listing, and prints what their loops hold.
///
/// # Errors
/// Names every kernel that is not as it should be.
pub(super) fn check(listing: &str, model: Option<&Model>, out: &mut impl Write) -> Result<()> {
    let functions = functions(listing);
    let mut wrong = Vec::new();
    let cycles = match model {
        Some(_) => "cycles by LLVM's model, products a cycle".to_owned(),
        None => format!("no cycles: there is no llvm-mca of LLVM {VERSION_MIN} or later"),
    };
    writeln!(
        out,
        "format  kernel        instructions of its inner loop, per product; {cycles}"
    )?;
    for (format, is_plain) in FORMATS {
        for kernel in kernels(format, is_plain) {
            match kernel.find_loop(&functions) {
                Ok((body, vectors)) => {
                    let products = (vectors * kernel.products) as f64;
                    let cycles = match model.map(|model| model.cycles(body)) {
                        Some(Ok(cycles)) => format!("; {cycles:.0}, {:.1}", products / cycles),
                        Some(Err(error)) => format!("; {error:#}"),
                        None => String::new(),
                    };
                    writeln!(
                        out,
                        "{:7} {:13} {:4}, {vectors} {}: {:.3}{}",
                        format,
                        kernel.shape,
                        body.len(),
                        kernel.operation,
                        body.len() as f64 / products,
                        cycles
                    )?;
                }
                Err(error) => wrong.push(format!("{format}, {}: {error:#}", kernel.shape)),
            }
        }
    }
    ensure!(
        wrong.is_empty(),
        "the machine code of {} kernels is not as it should be:\n  {}",
        wrong.len(),
        wrong.join("\n  ")
    );
    Ok(())
}

/// What is expected of one kernel.
struct Kernel {
    /// How its function is called, after [`ENTER`].
    function: String,
    /// For people.
    shape: String,
    /// The vector instruction that multiplies, and how many products it computes.
    operation: &'static str,
    products: usize,
    /// The least that the inner loop holds.
    operations_min: usize,
}

fn kernels(format: &str, is_plain: bool) -> Vec<Kernel> {
    let name = format.to_lowercase().replace('_', "");
    if is_plain {
        let operations_min = MANY_WIDTH * COLUMN_PRODUCTS / FMLA_PRODUCTS;
        return vec![Kernel {
            function: format!("float::float<float::float{name}>"),
            shape: "any tokens".to_owned(),
            operation: "fmla",
            products: FMLA_PRODUCTS,
            operations_min,
        }];
    }
    let quantized = |function, shape, width| Kernel {
        function,
        shape,
        operation: "sdot",
        products: SDOT_PRODUCTS,
        operations_min: width * BLOCK_PRODUCTS / SDOT_PRODUCTS,
    };
    let mut kernels: Vec<Kernel> = FEW_WIDTHS
        .map(|width| {
            let function = format!("few::few<layout::{name}, {width}>");
            quantized(function, format!("{width} tokens"), width)
        })
        .into();
    let function = format!("many::many<layout::{name}>");
    kernels.push(quantized(function, "many tokens".to_owned(), MANY_WIDTH));
    kernels
}

impl Kernel {
    /// The loop that multiplies, and how many vector instructions do so.
    fn find_loop<'a, 'b>(
        &self,
        functions: &'b Functions<'a>,
    ) -> Result<(&'b [Instruction<'a>], usize)> {
        let (_, instructions) = functions
            .iter()
            .find(|(name, _)| plain(name).is_some_and(|name| name == self.function))
            .context("there is no such function")?;
        // The compiler may make the step of a tile a function of its own.
        let steps = instructions
            .iter()
            .filter(|instruction| instruction.operation == "bl")
            .filter_map(|instruction| called(instruction.operands))
            .filter(|name| plain(name).is_some_and(|name| name.starts_with("many::kindstep<")))
            .filter_map(|name| functions.get(name));
        let loops: Vec<_> = std::iter::once(instructions)
            .chain(steps)
            .flat_map(|instructions| inner_loops(instructions))
            .map(|body| (self.count(body), body))
            .collect();
        let most = loops.iter().map(|(count, _)| *count).max();
        let most = most.context("it has no loop")?;
        // A function for any number of tokens has loops for wider tiles, too, which this processor does not use.
        let (count, body) = loops
            .into_iter()
            .filter(|(count, _)| *count >= self.operations_min)
            .min_by_key(|(count, _)| *count)
            .with_context(|| {
                format!(
                    "no inner loop holds {} {}, the most is {most}",
                    self.operations_min, self.operation
                )
            })?;
        let mut multiplies = body.iter().filter(|other| other.multiplies_one());
        let fallback = body
            .iter()
            .find(|other| other.is_fallback())
            .or(multiplies.nth(ADDRESS_MULTIPLIES_MAX));
        if let Some(other) = fallback {
            bail!(
                "its inner loop holds `{} {}` at {:x}",
                other.operation,
                other.operands,
                other.address
            );
        }
        Ok((body, count))
    }

    fn count(&self, body: &[Instruction<'_>]) -> usize {
        body.iter()
            .filter(|instruction| instruction.operation == self.operation)
            .filter(|instruction| instruction.operands.contains(".4s"))
            .count()
    }
}

impl Instruction<'_> {
    /// Whether it has no place in an inner loop: a call, a load of a single byte, arithmetic of single floats.
    fn is_fallback(&self) -> bool {
        match self.operation {
            "bl" | "blr" | "ldrb" | "ldrsb" => true,
            operation => {
                operation.starts_with('f')
                    && self
                        .operands
                        .split_once(',')
                        .is_some_and(|(to, _)| is_scalar_float(to))
            }
        }
    }

    /// Whether it multiplies single integers.
    fn multiplies_one(&self) -> bool {
        matches!(
            self.operation,
            "madd" | "mul" | "smaddl" | "smull" | "umaddl" | "umull"
        ) && self.operands.starts_with(['w', 'x'])
    }

    /// Whether it is a jump, or takes the address of something outside of the function.
    pub(super) fn names_an_address(&self) -> bool {
        self.operands.contains('<') || self.target().is_some()
    }

    /// Where it may jump to.
    fn target(&self) -> Option<u64> {
        let jumps = matches!(self.operation, "b" | "cbz" | "cbnz" | "tbz" | "tbnz")
            || self.operation.starts_with("b.");
        let address = self.operands.split(" <").next()?.rsplit(", ").next()?;
        jumps.then(|| u64::from_str_radix(address, 16).ok())?
    }
}

/// `h`, `s` or `d`, and a number.
fn is_scalar_float(register: &str) -> bool {
    register
        .strip_prefix(['h', 's', 'd'])
        .is_some_and(|number| number.parse::<u8>().is_ok())
}

/// The name of a kernel without where its parts are, and without what its writers spell differently:
/// `few::few<layout::q4k, 1>`.
fn plain(name: &str) -> Option<String> {
    let name = name.strip_prefix(ENTER)?.strip_suffix('>')?;
    let name = name.replace("postern_kernels::packed::", "");
    // Some disassemblers write the type of a constant.
    Some(name.replace("usize", "").replace('_', "").to_lowercase())
}

/// The name in `address <name>`.
fn called(operands: &str) -> Option<&str> {
    operands.split_once(" <")?.1.strip_suffix('>')
}

/// The loops of a function that have no loop inside.
fn inner_loops<'a, 'b>(
    instructions: &'b [Instruction<'a>],
) -> impl Iterator<Item = &'b [Instruction<'a>]> {
    let loops: Vec<(usize, usize)> = instructions
        .iter()
        .enumerate()
        .filter_map(|(end, instruction)| {
            let target = instruction.target()?;
            let start = instructions.binary_search_by_key(&target, |other| other.address);
            let start = start.ok().filter(|start| *start <= end)?;
            Some((start, end))
        })
        .collect();
    let inner: Vec<(usize, usize)> = loops
        .iter()
        .filter(|(start, end)| {
            let inside = |other: &&(usize, usize)| start <= &other.0 && &other.1 <= end;
            loops.iter().filter(inside).count() == 1
        })
        .copied()
        .collect();
    inner
        .into_iter()
        .map(|(start, end)| &instructions[start..=end])
}

/// Takes a listing apart: `address <name>:` begins a function, other lines with a colon are its instructions.
fn functions(listing: &str) -> Functions<'_> {
    let mut functions = Functions::new();
    let mut name = None;
    for line in listing.lines() {
        if let Some(line) = line.strip_suffix(">:") {
            name = line.split_once(" <").map(|(_, name)| name);
        } else if let (Some(name), Some(instruction)) = (name, instruction(line)) {
            functions.entry(name).or_default().push(instruction);
        }
    }
    functions
}

fn instruction(line: &str) -> Option<Instruction<'_>> {
    let (address, rest) = line.split_once(":\t")?;
    let (operation, operands) = rest.split_once('\t').unwrap_or((rest, ""));
    Some(Instruction {
        address: u64::from_str_radix(address.trim(), 16).ok()?,
        operation: operation.trim(),
        operands: operands.split("\t//").next().unwrap_or("").trim(),
    })
}

#[cfg(test)]
mod tests {
    use postern_kernels::Format;

    use super::*;

    const NAME: &str = "postern_kernels::isa::neon::enter::<postern_kernels::matmul::few::Few<\
                        postern_kernels::packed::layout::Q4K, 1>>";

    /// A function with a loop of 32 `sdot`, in which `beside` stands too.
    fn listing(name: &str, beside: &str) -> String {
        let mut text = format!("0000000000001000 <{name}>:\n    1000:\tmov\tx0, xzr\n");
        for index in 0..32 {
            let address = 0x1004 + 4 * index;
            text += &format!("    {address:x}:\tsdot\tv0.4s, v1.16b, v2.4b[0]\n");
        }
        text += &format!("    1084:\t{beside}\n");
        text + &format!("    1088:\tb.ne\t1004 <{NAME}+0x4>  // b.any\n    108c:\tret\n")
    }

    fn found(listing: &str) -> Result<(usize, usize)> {
        let functions = functions(listing);
        let kernel = kernels("Q4_K", false).into_iter().next();
        let (body, count) = kernel.expect("a kernel").find_loop(&functions)?;
        Ok((body.len(), count))
    }

    #[test]
    fn a_loop_of_dot_products_is_what_is_wanted() {
        for beside in [
            "add\tx1, x1, #0x40",
            "fmla\tv3.4s, v4.4s, v5.s[0]",
            "umaddl\tx1, w2, w3, x4",
        ] {
            let (length, count) = found(&listing(NAME, beside)).expect(beside);
            assert_eq!((length, count), (34, 32), "{beside}");
        }
    }

    #[test]
    fn whatever_multiplies_beside_them_is_found() {
        for beside in [
            "bl\t2000 <core::fallback>",
            "blr\tx8",
            "ldrsb\tw8, [x9]",
            "smaddl\tx1, w2, w3, x1\n    1084:\tmul\tx1, x2, x3\n    1084:\tmadd\tx1, x2, x3, x1",
            "fmadd\ts0, s1, s2, s0",
        ] {
            let error = found(&listing(NAME, beside)).expect_err(beside);
            let last = beside.lines().last().expect("an instruction");
            let operation = last.rsplit('\t').nth(1).expect("an operation");
            assert!(error.to_string().contains(operation), "{beside}: {error}");
        }
    }

    #[test]
    fn a_kernel_that_is_not_there_or_does_not_loop_is_found() {
        for (listing, says) in [
            (listing("another", "nop"), "no such function"),
            (listing(NAME, "nop").replace("b.ne", "adr"), "no loop"),
            (listing(NAME, "nop").replace("sdot", "mla"), "most is 0"),
        ] {
            let error = found(&listing).expect_err(says).to_string();
            assert!(error.contains(says), "{error}");
        }
    }

    #[test]
    fn all_formats_are_listed() {
        let all = Format::ALL.map(|format| (format!("{format:?}"), format.block_elements() == 1));
        let listed = FORMATS.map(|(name, is_plain)| (name.to_owned(), is_plain));
        assert_eq!(listed, all);
    }
}
