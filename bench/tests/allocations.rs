//! Once its memory has grown to what requests need, a router allocates nothing.

use sluice::route::chain::Chain;
use sluice_bench::rig::{Rig, prompt};

#[test]
fn requests_allocate_nothing() {
    let mut rig = Rig::new(64, 30 * 1024, 0.0);
    let mut chains = vec![Chain::default(); 40];
    for (number, chain) in (0..).zip(&mut chains) {
        // Some grow, some are new.
        prompt(chain, number * 3, 32 * 1024);
    }
    for chain in &chains {
        rig.turn(chain);
    }
    let counted = allocation_counter::measure(|| {
        for chain in &chains {
            rig.turn(chain);
        }
        for chain in &chains {
            let own = rig.router.chain();
            rig.decide(chain);
            rig.router.put_chain(own);
        }
    });
    assert_eq!(counted.count_total, 0, "{counted:?}");
}
