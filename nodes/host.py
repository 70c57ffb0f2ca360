"""The one place that talks to ComfyUI's services: progress, interruption, folders and memory."""

import comfy.model_management
import comfy.utils


def node_progress():
    """Return a progress callback for ``models/`` that moves the node's bar and raises when the user cancels.

    The callback has the signature of :data:`codeclens.models.progress.Progress`. The host checks for interruption only
    when its bar redraws, so every call checks here as well.
    """
    bar = None

    def report(done, total):
        nonlocal bar
        comfy.model_management.throw_exception_if_processing_interrupted()
        if bar is None or bar.total != total:
            bar = comfy.utils.ProgressBar(total)
        bar.update_absolute(done, total)

    return report
