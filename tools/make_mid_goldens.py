#!/usr/bin/env python3
"""Makes the two reference checkpoints at the real head sizes for which make_goldens.py's own search is too short.

Usage: PYTHONPATH=../shared/oracle tools/make_mid_goldens.py OUT_DIR [--seed 0] [--only NAME ...]

Cases, formats, reference outputs and conditions (no expert choice is close, the same experts in BF16) are those of
make_goldens.py, which needs torch and transformers; only the candidates are tried in another order:

moe-nvfp4-modelopt-128    With 128 experts one id in 30 leaves every choice clear, and make_goldens.py tries 8 of them at
                          late places. Here all ids are tried, with the placeholders after them, over a KV cache of the
                          text so far.
moe-vision-bf16           make_goldens.py draws text and images blindly and looks afterwards: 450 choices are never all
                          clear at once. Here the text around the images is drawn like any other, and the pixels of each
                          image until its rows are clear.
"""
import argparse
import collections

import make_goldens as oracle
import torch

ORDINARY_IDS = range(3, 290)  # as in make_goldens.draw: below the placeholders
BATCH = 48
RETREATS = 100
TRIES_A_STEP = 4
IMAGE_TRIES = 2000
PROMPT_TRIES = 3
TEXT_GAP = 0.04               # both as in make_goldens.make_case
IMAGE_GAP = 2e-3
SPECIAL = oracle.full_config({})

NO_IMAGES = (torch.empty(0), torch.empty(0))
original_build, original_add_images = oracle.build, oracle.add_images


def media(ids, images):
    """The model's further arguments for a text with `images`: pixels [N, patches, 768], positions [N, patches, 2]."""
    if not len(images[0]):
        return {}
    return dict(pixel_values=images[0], image_position_ids=images[1],
                mm_token_type_ids=(torch.tensor(ids) == SPECIAL["image_token_id"]).long()[None])


def next_gaps(model, ids, tries, images):
    """The smallest router gap at each token of `tries` [N, n], each of which follows `ids`; None without experts."""
    with oracle.RouterGaps(model) as router, torch.no_grad():
        cache = None
        if ids:
            cache = model.model(input_ids=torch.tensor([ids]), use_cache=True, **media(ids, images)).past_key_values
            cache.batch_repeat_interleave(len(tries))
            router.take()
        model.model(input_ids=tries, past_key_values=cache, use_cache=cache is not None)
        gaps = router.take()
    return None if gaps is None else gaps.reshape(tries.shape)


def first_clear(model, gen, ids, fixed, gap, images):
    """Ids that may follow `ids`, one and the fixed ones after it; or None."""
    at = len(ids)
    first = [fixed[at]] if at in fixed else ORDINARY_IDS.start + torch.randperm(len(ORDINARY_IDS), generator=gen)
    tries, wanted = torch.as_tensor(first)[:, None], [gap / 2 if at in fixed else gap]
    while at + len(wanted) in fixed:
        tries = torch.nn.functional.pad(tries, (0, 1), value=fixed[at + len(wanted)])
        wanted.append(gap / 2)
    for batch in tries.split(BATCH):
        gaps = next_gaps(model, ids, batch, images)
        clear = batch if gaps is None else batch[(gaps >= torch.tensor(wanted)).all(1)]
        if len(clear):
            return clear[0].tolist()
    return None


def draw(model, gen, ids, count, fixed, gap, images=NO_IMAGES):
    """As make_goldens.draw, with every ordinary id tried at every place. Few ids may follow a text, so from a place that stays
    closed it steps back further and further."""
    start, ids, retreats, failed = len(ids), list(ids), 0, collections.Counter()
    while len(ids) < start + count:
        place = len(ids)
        chosen = first_clear(model, gen, ids, fixed, gap, images)
        if chosen:
            ids += chosen
            failed[place] = 0
            continue
        failed[place] += 1
        retreats += 1
        if retreats > RETREATS or place == start:
            return None
        back = place - 1 - failed[place] // TRIES_A_STEP
        while back in fixed:
            back -= 1
        del ids[max(start, back):]
    return ids


def clear_in_bf16(model, ids, extra):
    """Whether no expert choice over `ids` is close, and transformers in BF16 makes the same ones."""
    routed = {}
    hooks = [layer.router.register_forward_hook(lambda m, a, out, i=i: routed.__setitem__(f"router_index_{i}", out[2].clone()))
             for i, layer in enumerate(model.model.language_model.layers)]
    with oracle.RouterGaps(model) as router:
        logits = oracle.forward(model, torch.tensor(ids), extra)
        gap = float(router.take().min())
    for hook in hooks:
        hook.remove()
    if gap < IMAGE_GAP:
        return False
    result = routed | {"prompt_ids": torch.tensor(ids), "logits": logits}
    return oracle.bf16_agreement(model, result, extra)["expert_sets_agree"] == 1


def add_image(model, gen, ids, images, grids):
    """Appends the next of `grids` and its end token to `ids` and `images`; None if no pixels leave all its rows clear."""
    at = len(images[0])
    soft = grids[at][0] * grids[at][1] // 9
    text = ids + [SPECIAL["image_token_id"]] * soft + [SPECIAL["eoi_token_id"]]
    for _ in range(IMAGE_TRIES):
        _, drawn = original_add_images(torch.zeros(16, dtype=torch.long), gen, grids)
        pixels, positions = drawn["pixel_values"][at:at + 1], drawn["image_position_ids"][:at + 1]
        more = (torch.cat([images[0], pixels]) if at else pixels, positions)
        if clear_in_bf16(model, text, media(text, more)):
            return text, more
    return None


def try_prompt(model, gen, length, grids):
    """The ids and images of one prompt: places as in make_goldens.add_images. None if stuck."""
    ids, images, before = [], NO_IMAGES, 10
    for grid in grids:
        ids = draw(model, gen, ids, before + 1, {0: 2, len(ids) + before: SPECIAL["boi_token_id"]}, TEXT_GAP, images)
        found = ids and add_image(model, gen, ids, images, grids)
        if not found:
            return None
        (ids, images), length, before = found, length - before, 5
    ids = draw(model, gen, ids, length, {}, TEXT_GAP, images)
    return ids and (ids, images)


def search_images(model, prompt, gen, grids):
    """In place of make_goldens.add_images: of `prompt` the length alone matters. Where nothing is found (mostly because the
    first token is not clear), a blind draw, for make_case to refuse and go on to the next model."""
    for _ in range(PROMPT_TRIES):
        found = try_prompt(model, gen, len(prompt), grids)
        if found:
            return torch.tensor(found[0]), media(*found)
    return original_add_images(prompt, gen, grids)


def build_and_search(config, seed):
    model = original_build(config, seed)
    oracle.add_images = lambda prompt, gen, grids: search_images(model, prompt, gen, grids)
    return model


if __name__ == "__main__":
    ap = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ap.add_argument("out")
    ap.add_argument("--seed", type=int, default=0)
    ap.add_argument("--only", nargs="*", default=["moe-nvfp4-modelopt-128", "moe-vision-bf16"])
    args = ap.parse_args()
    oracle.build, oracle.draw = build_and_search, draw
    for case in args.only:
        oracle.make_case(args.out, case, "mid", args.seed)
