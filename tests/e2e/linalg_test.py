"""Linear algebra, which JAX on CPU leaves to custom calls: the worker's own kernels (src/pjrt/lapack), each routine in
all four types, on a batch. What a decomposition must give is what NumPy can check: its factors multiply back."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from harness import Client
from jax import lax

DTYPES = ("float32", "float64", "complex64", "complex128")


def check(dtype: str) -> None:
    """All routines on one type. Runs in the client."""
    generator = np.random.default_rng(0)
    is_complex = dtype.startswith("complex")
    tolerance = 1e-3 if dtype in ("float32", "complex64") else 1e-9

    def numbers(*shape: int) -> np.ndarray:
        values = generator.standard_normal(shape)
        return (values + 1j * generator.standard_normal(shape) if is_complex else values).astype(dtype)

    def adjoint(a: np.ndarray) -> np.ndarray:
        return np.conj(np.swapaxes(a, -1, -2))

    def same(got: jax.Array, want: np.ndarray) -> None:
        np.testing.assert_allclose(np.asarray(got), want, rtol=tolerance, atol=tolerance)

    def on(function, *arguments):
        return jax.tree.map(np.asarray, jax.jit(function)(*arguments))

    a, tall, b = numbers(3, 6, 6), numbers(3, 7, 4), numbers(3, 6, 2)
    positive = a @ adjoint(a) + 6 * np.eye(6, dtype=dtype)
    hermitian = a + adjoint(a)
    eye = np.eye(6, dtype=dtype)

    lower = on(jnp.linalg.cholesky, positive)
    same(lower @ adjoint(lower), positive)
    same(lower, np.tril(lower))
    same(on(jnp.linalg.solve, a, b), np.linalg.solve(a, b))
    same(on(jnp.linalg.inv, a) @ a, np.broadcast_to(eye, a.shape))
    same(on(jnp.linalg.det, a), np.linalg.det(a))
    x = on(lambda t, b: lax.linalg.triangular_solve(t, b, left_side=True, lower=True), lower, b)
    same(lower @ x, b)

    for mode in ("reduced", "complete"):
        q, r = on(lambda t, mode=mode: tuple(jnp.linalg.qr(t, mode=mode)), tall)
        same(q @ r, tall)
        same(adjoint(q) @ q, np.broadcast_to(np.eye(q.shape[-1]), (3, q.shape[-1], q.shape[-1])))
    reflectors, taus = on(lambda t: tuple(jnp.linalg.qr(t, mode="raw")), tall)
    same(on(lambda h, t: lax.linalg.ormqr(jnp.matrix_transpose(h), t, q), reflectors, taus), q @ q)
    q, r, columns = on(lambda t: lax.linalg.qr(t, pivoting=True, full_matrices=False), tall)
    same(q @ r, np.take_along_axis(tall, columns[:, None, :], axis=-1))

    for algorithm in (lax.linalg.SvdAlgorithm.DEFAULT, lax.linalg.SvdAlgorithm.QR):
        u, s, vh = on(lambda t, how=algorithm: tuple(lax.linalg.svd(t, full_matrices=False, algorithm=how)), tall)
        same((u * s[:, None, :]) @ vh, tall)
        same(s, np.linalg.svd(tall, compute_uv=False))

    w, v = on(lambda h: tuple(jnp.linalg.eigh(h)), hermitian)
    same((v * w[:, None, :]) @ adjoint(v), hermitian)
    w, v = on(lambda a: tuple(jnp.linalg.eig(a)), a)
    same(a @ v, v * w[:, None, :])
    form, z = on(lambda a: tuple(lax.linalg.schur(a)), a)
    same(z @ form @ adjoint(z), a)

    reduced, taus = on(lax.linalg.hessenberg, a)
    q = np.broadcast_to(eye, a.shape).copy()
    q[:, 1:, 1:] = on(lambda r, t: lax.linalg.householder_product(r[..., 1:, :-1], t), reduced, taus)
    same(q @ np.triu(reduced, -1) @ adjoint(q), a)
    _, d, e, _ = on(lambda h: lax.linalg.tridiagonal(h, lower=True), hermitian)
    same((d**2).sum(-1) + 2 * (e**2).sum(-1), (np.abs(hermitian) ** 2).sum((-1, -2)))

    below, diagonal, above = numbers(3, 6), numbers(3, 6) + 5, numbers(3, 6)
    below[:, 0] = above[:, -1] = 0
    dense = np.zeros_like(a)
    for i in range(6):
        dense[:, i, i] = diagonal[:, i]
        if i:
            dense[:, i, i - 1], dense[:, i - 1, i] = below[:, i], above[:, i - 1]
    for perturb in (False, True):
        x = on(lambda *t, p=perturb: lax.linalg.tridiagonal_solve(*t, perturb_singular=p), below, diagonal, above, b)
        same(dense @ x, b)


@pytest.mark.parametrize("dtype", DTYPES)
def test_decompositions_multiply_back(client: Client, dtype: str) -> None:
    def run() -> None:
        with jax.enable_x64(True):
            check(dtype)

    client.call(run)


def test_an_item_with_nan_gives_nan_and_spares_the_rest_of_its_batch(client: Client) -> None:
    @client.run
    def _() -> None:
        batch = np.stack([np.eye(3), np.full((3, 3), np.nan), 4 * np.eye(3)]).astype(np.float32)
        for function in (jnp.linalg.cholesky, jnp.linalg.inv, lambda a: jnp.linalg.svd(a, compute_uv=False)):
            good, bad, other = np.asarray(jax.jit(function)(batch))
            assert np.isfinite(good).all()
            assert np.isfinite(other).all()
            assert np.isnan(bad[..., 0]).all()


def test_sparse_products(client: Client) -> None:
    @client.run
    def _() -> None:
        from jax.experimental import sparse

        dense = np.array([[0, 2, 0], [1, 0, 3]], np.float32)
        product = jax.jit(lambda m, x: m @ x)(sparse.BCSR.fromdense(dense, nse=5), np.eye(3, dtype=np.float32))
        np.testing.assert_array_equal(product, dense)


def test_the_gradient_goes_through(client: Client) -> None:
    @client.run
    def _() -> None:
        a = np.array([[4, 1], [1, 3]], np.float32)
        gradient = jax.jit(jax.grad(lambda a: jnp.linalg.slogdet(a)[1]))(a)
        np.testing.assert_allclose(gradient, np.linalg.inv(a).T, rtol=1e-5)
