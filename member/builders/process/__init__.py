"""The process builder: uv makes an environment, repo2docker's rules say of what, and no container is involved.

An image is a directory: an environment as a layer over a base one (JupyterLab and what belongs to it), and a home with
the repository.  Nothing of a repository is run or parsed in this process; that happens in the sandbox.
"""
