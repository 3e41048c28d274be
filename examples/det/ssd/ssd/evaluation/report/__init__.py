"""report.html: what an evaluation found, and where its errors come from, in one page that needs nothing else."""
