"""Page keys: chained, separated, and the same for ever."""

from kvtier_engine.kv.keys import NO_PARENT, KeyChain, page_key, root_key

SPACE = bytes(range(16))


def chain(tokens, salt="", size=4):
    keys = KeyChain(root_key(SPACE, salt), size)
    keys.extend(tokens)
    return keys


def test_a_key_is_the_same_on_every_machine_and_in_every_version():
    """These are on operators' disks: a change here makes every cache cold."""
    assert root_key(SPACE).hex() == "bc97fee302c262880c5acf7836659e8f"
    assert page_key(NO_PARENT, [1, 2, 70000]).hex() == "4a2922ecae3702e0efbfe484a0b76880"


def test_only_full_pages_have_keys():
    keys = chain(range(11))
    assert len(keys.keys) == 2
    keys.extend(range(12))
    assert len(keys.keys) == 3
    assert keys.keys == chain(range(12)).keys


def test_a_key_depends_on_everything_before_its_page():
    assert chain([1, 2, 3, 4, 5, 6, 7, 8]).keys[1] != chain([1, 2, 3, 9, 5, 6, 7, 8]).keys[1]


def test_salt_and_namespace_separate_whole_chains():
    plain, salted = chain(range(8)).keys, chain(range(8), salt="tenant").keys
    assert not set(plain) & set(salted)
    other = KeyChain(root_key(bytes(16)), 4)
    other.extend(range(8))
    assert not set(plain) & set(other.keys)


def test_no_two_combinations_of_salt_tenant_and_generation_share_a_root():
    texts = ["", "a", "b", "ab", "ba", "a\0b", "\0", "a" * 300]
    roots = {
        root_key(SPACE, salt, tenant, generation)
        for salt in texts
        for tenant in texts
        for generation in (0, 1, 256)
    }
    assert len(roots) == len(texts) ** 2 * 3


def test_parents():
    keys = chain(range(8))
    assert keys.parent(0) == NO_PARENT
    assert keys.parent(1) == keys.keys[0]
