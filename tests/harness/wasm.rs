//! WebAssembly that no compiler makes, in bytes: core modules with what tests need, put behind a component, which then
//! is what it was, and holds them besides.

/// A component with what no compiler makes.
pub struct Odd {
    pub what: &'static str,
    pub component: Vec<u8>,
    /// What a refusal of it says. None: it is put in force.
    pub refused: Option<&'static str>,
}

const I32: u8 = 0x7f;

/// A number as WebAssembly writes it.
fn number(mut number: u32) -> Vec<u8> {
    let mut bytes = Vec::new();
    while number > 0x7f {
        bytes.push(number as u8 & 0x7f | 0x80);
        number >>= 7;
    }
    bytes.push(number as u8);
    bytes
}

/// What takes its length and then itself.
fn sized(content: &[u8]) -> Vec<u8> {
    [number(u32::try_from(content.len()).unwrap()), content.to_vec()].concat()
}

fn section(id: u8, content: &[u8]) -> Vec<u8> {
    [vec![id], sized(content)].concat()
}

fn module(sections: &[Vec<u8>]) -> Vec<u8> {
    [b"\0asm\x01\0\0\0".to_vec(), sections.concat()].concat()
}

/// A component with one more core module, of which it makes so many instances.
fn with_module(component: &[u8], module: &[u8], instances: u32) -> Vec<u8> {
    let index = sections(component).filter(|id| *id == 1).count();
    let instance = [vec![0], number(u32::try_from(index).unwrap()), vec![0]].concat();
    let all = [number(instances), instance.repeat(instances as usize)].concat();
    [component.to_vec(), section(1, module), section(2, &all)].concat()
}

/// The kinds of a component's sections.
fn sections(component: &[u8]) -> impl Iterator<Item = u8> {
    let mut rest = &component[8..];
    std::iter::from_fn(move || {
        let (id, behind) = rest.split_first()?;
        let digits = behind.iter().position(|byte| byte & 0x80 == 0).unwrap() + 1;
        let length = behind[..digits].iter().rev().fold(0, |length, byte| length << 7 | usize::from(byte & 0x7f));
        rest = &behind[digits + length..];
        Some(*id)
    })
}

/// A component each instance of which has so many tables of one element and memories of one page, and begins with a
/// function without parameters and results: its code, without locals and `end`.
fn that_begins(component: &[u8], tables: u32, memories: u32, code: &[&[u8]]) -> Vec<u8> {
    let body = sized(&[&[0], &code.concat()[..], &[0x0b]].concat());
    let all = [
        section(1, &[1, 0x60, 0, 0]),
        section(3, &[1, 0]),
        section(4, &[number(tables), [0x70, 0, 1].repeat(tables as usize)].concat()),
        section(5, &[number(memories), [0, 1].repeat(memories as usize)].concat()),
        section(8, &[0]),
        section(10, &[vec![1], body].concat()),
    ];
    with_module(component, &module(&all), 1)
}

/// A component that makes so many instances of an empty module.
fn of_instances(component: &[u8], instances: u32) -> Vec<u8> {
    with_module(component, &module(&[]), instances)
}

/// A component with a function that it never calls, which takes so many numbers and gives as many: its code, before
/// which all of them are put on the stack, and without `end`.
fn with_function(component: &[u8], numbers: u8, code: &[u8]) -> Vec<u8> {
    let taken: Vec<u8> = (0..numbers).flat_map(|index| [0x20, index]).collect();
    let body = sized(&[&[0], &taken[..], code, &[0x0b]].concat());
    let signature = [vec![numbers], [I32].repeat(numbers.into())].concat();
    let all = [
        section(1, &[&[1, 0x60], &signature[..], &signature].concat()),
        section(3, &[1, 0]),
        section(10, &[vec![1], body].concat()),
    ];
    with_module(component, &module(&all), 0)
}

/// A ttl component as `bellwether policy build` makes it, with what no compiler makes.
pub fn odd(ttl: &[u8]) -> Vec<Odd> {
    const MORE_TABLE: [u8; 15] = [3, 0x40, 0xd0, 0x70, 0x41, 0xe8, 7, 0xfc, 15, 0, 0x41, 0x7f, 0x47, 13, 0];
    const MORE_MEMORY: [u8; 11] = [3, 0x40, 0x41, 16, 0x40, 0, 0x41, 0x7f, 0x47, 13, 0];
    const ENDLESS: [u8; 5] = [3, 0x40, 12, 0, 0x0b];
    const ITSELF: [u8; 2] = [0x10, 0];
    const AND_ON: [u8; 1] = [0x0b];
    const OR_TRAP: [u8; 2] = [0x0b, 0];
    // Loops that hand on what they were given: a compiler has to tell apart what each number is behind each of them.
    let loops = [3, 0, 0x20, 0, 13, 0, 0x0b].repeat(60_000);
    let begins = |tables, memories, code: &[&[u8]]| that_begins(ttl, tables, memories, code);
    let fails = Some("could not be instantiated");
    let memory = Some("bytes of memory (policy_compile_bytes_max)");
    let odd = |what, refused, component| Odd { what, component, refused };
    vec![
        odd("a table that grows while it may", None, begins(1, 0, &[&MORE_TABLE, &AND_ON])),
        odd("a memory that grows while it may", None, begins(0, 1, &[&MORE_MEMORY, &AND_ON])),
        odd("a table that must be larger", fails, begins(1, 0, &[&MORE_TABLE, &OR_TRAP])),
        odd("a memory that must be larger", fails, begins(0, 1, &[&MORE_MEMORY, &OR_TRAP])),
        odd("no end of the beginning", fails, begins(0, 0, &[&ENDLESS])),
        odd("a beginning that calls itself", fails, begins(0, 0, &[&ITSELF])),
        odd("many tables", Some("tables; at most"), begins(99, 0, &[])),
        odd("many memories", Some("memories and"), begins(0, 99, &[])),
        odd("many instances", fails, of_instances(ttl, 900)),
        odd("all memory to compile", memory, with_function(ttl, 16, &loops)),
    ]
}

/// One with calls of itself, for which memory would last a minute.
pub fn slow_to_compile(ttl: &[u8]) -> Odd {
    Odd {
        what: "a minute to compile",
        component: with_function(ttl, 16, &[0x10, 0].repeat(60_000)),
        refused: Some("more than 6000 ms (policy_compile_ms_max)"),
    }
}
