"""THE loop: ask → decode → merge → evaluate → record → tell. Read this file first.

Every step looks into the store before it does anything, so that starting again after a crash is the same as going on.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path

from vlmerge.agreement import go_on
from vlmerge.bench import Bench, Observer
from vlmerge.config.model_ref import ModelRef
from vlmerge.config.run import RunConfig
from vlmerge.election import Standing, elect
from vlmerge.export import export_winner
from vlmerge.generation import try_generation
from vlmerge.holdout import first_look
from vlmerge.hybrid import after_merging
from vlmerge.loggers import logging_to, require_installed
from vlmerge.recording import stored_config, write_run
from vlmerge.rotation import ask_finalists_the_rest
from vlmerge.run_folder import RunFolder, open_run
from vlmerge.search import Handed, Stage, baselines, stages
from vlmerge.setting import Setting, begin
from vlmerge.simplify import simplify
from vlmerge.store import Store
from vlmerge.types import Genome
from vlmerge.watching import Watch


def evolve(config: RunConfig, path: Path, observer: Observer, *, lang: str = "en") -> Path:
    """Runs an evolution, or goes on with it where it stopped; on a finished run does nothing.

    Args:
        config: The run.
        path: Its folder.
        observer: Who watches.
        lang: Language of the page: `en` or `ja`.

    Returns:
        The run folder.

    Raises:
        UserError: Anything that the person can mend; what is finished stays in the folder.
    """
    require_installed(config.loggers)
    with open_run(path) as folder, logging_to(config.loggers, folder, observer.say) as logbook:
        config = after_merging(config, folder, lambda first, inside: evolve(first, inside, observer, lang=lang))
        watch = Watch(folder, observer, lang, logbook=logbook)
        if folder.store.get("finished"):
            stored_config(config, folder.store)  # Refuses another one.
            watch.report(final=True)
            watch.log(finished=True)
            return folder.path
        setting = begin(config, folder, observer)
        watch.log()
        bench = Bench(folder.store, setting.live, setting.sets)
        ranked = try_baselines(setting, bench, watch)
        handed: Handed | None = None
        planned = stages(setting.config, setting.layers, setting.models.host, ranked)
        for number, stage in enumerate(planned):
            handed = search(number, stage, handed, bench, folder.store, watch)
            try_mean(stage, handed.mean, bench, watch)
            folder.publish()
            if not go_on(number, planned, setting.config.search.agreement, folder.store, bench, watch):
                break
        ask_finalists_the_rest(folder.store, bench, watch, setting.config.search.finalists)
        standing = elect(folder.store, bench, watch, setting.config.search.finalists)
        standing = simplify(standing, planned, setting.config.search, folder.store, bench, watch)
        report_holdout(standing, folder.store, bench, setting, watch)
        finish(standing, folder, setting, watch)
    return folder.path


def try_baselines(setting: Setting, bench: Bench, watch: Watch) -> list[Mapping[ModelRef, float]]:
    """Scores every hand-set merge on the search questions; gives their weights, the best first: the search begins there."""
    tried: dict[int, Mapping[ModelRef, float]] = {}
    left_out: dict[str, str] = {}
    listed = baselines(setting.config, setting.models.host)
    with watch.step("hand-set merges", len(listed)):
        for baseline in listed:
            if baseline.recipe is None:
                left_out[baseline.row] = baseline.reason or ""
                continue
            trial = bench.try_recipe(baseline.label, "baseline", baseline.recipe)
            watch.tried(trial, bench.score(trial, "search"))
            tried[trial.trial] = baseline.weights
    bench.leave_out({**left_out, **unsearched(setting)})
    return bench.best_first(tried)


def unsearched(setting: Setting) -> dict[str, str]:
    """Rows that this run's stages do not have, with the reason."""
    names = {stage.name for stage in stages(setting.config, setting.layers, setting.models.host)}
    reasons: dict[str, str] = {}
    if setting.config.search.objectives:
        return dict.fromkeys(("global", "mean"), "several objectives have a front, and no one distribution")
    if "global" not in names:
        other = "genome" if setting.config.genome is not None else "path" if setting.config.path is not None else None
        begins = "no candidates for it" if isinstance(setting.config.search.start, str) else "the start is finer than that"
        reasons["global"] = f"a `{other}:` run searches what it names, nothing before" if other else begins
    if names == {"global"}:
        reasons["mean"] = "one group only: the distribution's mean is the row `global`"
    return reasons


def search(number: int, stage: Stage, handed: Handed | None, bench: Bench, store: Store, watch: Watch) -> Handed:
    """One stage of the search: asks, tries and tells generation after generation; hands on its last distribution."""
    optimizer = stage.optimizer(handed)
    known = store.generations(number)
    optimizer.replay(known)
    asked, generation = len(known), sum(one.fitness is not None for one in known)
    with watch.step(f"search, stage {number + 1}: {stage.name}", stage.budget, done=generation * stage.population):
        while not optimizer.done:
            started = time.perf_counter()
            genomes = optimizer.ask()
            if generation == asked:
                store.record_ask(number, generation, genomes)
                asked += 1
            fitness = try_generation(stage, (number, generation), genomes, bench, store, watch)
            optimizer.tell(genomes, fitness)
            seconds = time.perf_counter() - started
            store.record_tell(number, generation, fitness, optimizer.mean, optimizer.sigma, seconds)
            generation += 1
            watch.generation(stage, generation, optimizer, seconds)
    return Handed(stage.space, optimizer.distribution)


def try_mean(stage: Stage, mean: Genome, bench: Bench, watch: Watch) -> None:
    """The distribution's mean stands for election beside the best candidate; of one number per model it is the row `global`.

    A front has members instead.
    """
    if stage.several:
        return
    trial = bench.try_recipe(stage.row, "mean", stage.space.decode(mean), genome=mean)
    watch.tried(trial, bench.score(trial, "search"))


def report_holdout(standing: Standing, store: Store, bench: Bench, setting: Setting, watch: Watch) -> None:
    """Looks at the holdout once, for the winner and every row beside it."""
    trials = {trial.trial: trial for trial in map(store.trial, standing.rows.values()) if trial is not None}
    if not setting.sets.holdout:
        return
    first_look(store)
    with watch.step("holdout", len(trials)):
        for trial in trials.values():
            watch.tried(trial, bench.score(trial, "holdout"))


def finish(standing: Standing, folder: RunFolder, setting: Setting, watch: Watch) -> None:
    """Writes run.yaml, recipe.yaml and model/, marks the run as finished, and writes the page for the last time."""
    winner = folder.store.trial(standing.winner)
    assert winner is not None
    write_run(folder)
    folder.write_yaml("recipe.yaml", winner.recipe)
    simple = folder.store.trial(standing.rows.get("simple", 0))
    if simple is not None:
        folder.write_yaml("simple.yaml", simple.recipe)
    export_winner(folder, winner, setting.models)
    folder.store.set("finished", True)
    watch.report(final=True)
    watch.log(finished=True)
