"""All reports of a run together, signed by their SHA-256."""

from crh_train.digest import digest_bytes
from crh_train.reports import panels, summary, tables, training_metrics, validation_metrics
from crh_train.reports.inputs import ReportInputs

SUMS = "SHA256SUMS"


def build(inputs: ReportInputs) -> dict[str, bytes]:
    """File name -> bytes, sorted by name, then `SHA256SUMS` over all of them in the format of `sha256sum -c`.

    The same run gives the same bytes with the same versions of NumPy, matplotlib and Pillow. `cases.png`, `cases.npy`
    and `slice_metrics.csv` are there where there is something to show.
    """
    from crh_train.reports import cases, curves  # half a second of matplotlib, for nobody who only imports the package

    epochs = training_metrics.epoch_summaries(inputs.records)
    files = {
        "case_metrics.csv": tables.render_cases(inputs.held_out),
        "cases.json": panels.render_index(inputs),
        "curves.png": curves.render(inputs, epochs),
        "session_summary.md": summary.render(inputs, epochs),
        "training_metrics.json": training_metrics.render(inputs, epochs),
        "validation_metrics.json": validation_metrics.render(inputs),
    }
    if inputs.held_out.slices:
        files["slice_metrics.csv"] = tables.render_slices(inputs.held_out)
    if inputs.held_out.panels:
        files["cases.npy"] = panels.render_arrays(inputs)
    if inputs.cases:
        files["cases.png"] = cases.render(inputs)
    ordered = {name: files[name] for name in sorted(files)}
    return {**ordered, SUMS: "".join(f"{digest_bytes(data)}  {name}\n" for name, data in ordered.items()).encode()}
