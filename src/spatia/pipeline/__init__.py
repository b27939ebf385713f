"""The main job: from a slide to a report, step by step, each taken up again where it stopped."""
