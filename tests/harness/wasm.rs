//! WebAssembly that no compiler makes, in bytes: core modules with what tests need, put behind a component, which then
//! is what it was, and holds them besides.

/// A function without parameters and results that each instance begins with: its code, without locals and `end`.
pub struct Begins {
    /// Tables of one element, and memories of one page.
    pub tables: u32,
    pub memories: u32,
    pub code: Vec<u8>,
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

/// A component each instance of which begins with a function.
pub fn that_begins(component: &[u8], begins: &Begins) -> Vec<u8> {
    let Begins { tables, memories, code } = begins;
    let body = sized(&[&[0], &code[..], &[0x0b]].concat());
    let all = [
        section(1, &[1, 0x60, 0, 0]),
        section(3, &[1, 0]),
        section(4, &[number(*tables), [0x70, 0, 1].repeat(*tables as usize)].concat()),
        section(5, &[number(*memories), [0, 1].repeat(*memories as usize)].concat()),
        section(8, &[0]),
        section(10, &[vec![1], body].concat()),
    ];
    with_module(component, &module(&all), 1)
}

/// A component that makes so many instances of an empty module.
pub fn of_instances(component: &[u8], instances: u32) -> Vec<u8> {
    with_module(component, &module(&[]), instances)
}

/// A component with a function that it never calls, which takes so many numbers and gives as many: its code, before
/// which all of them are put on the stack, and without `end`.
pub fn with_function(component: &[u8], numbers: u8, code: &[u8]) -> Vec<u8> {
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
