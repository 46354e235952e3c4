"""Every error of the API has one shape: {"error": {"code", "message", "details"?}}."""

from __future__ import annotations

from typing import Any

from django.core.exceptions import PermissionDenied, RequestDataTooBig
from django.http import Http404
from rest_framework import exceptions
from rest_framework.response import Response
from rest_framework.views import exception_handler

from annotator.errors import Refusal


def handle_exception(error: Exception, context: dict[str, Any]) -> Response | None:
    """DRF's hook: refusals and DRF's own errors become one shape; anything else stays a 500."""
    if isinstance(error, Refusal):
        return Response({"error": {"code": error.code, "message": error.message}}, status=error.status)
    if isinstance(error, Http404):
        error = exceptions.NotFound()
    elif isinstance(error, RequestDataTooBig):
        error = exceptions.ParseError("The request is too large.")
    elif isinstance(error, PermissionDenied):
        error = exceptions.PermissionDenied()
    response = exception_handler(error, context)
    if response is None or not isinstance(error, exceptions.APIException):
        return response
    body: dict[str, Any] = {"code": _code(error), "message": _message(error)}
    if isinstance(error, exceptions.ValidationError):
        body["details"] = response.data
    response.data = {"error": body}
    return response


def _code(error: exceptions.APIException) -> str:
    if isinstance(error, exceptions.ValidationError):
        return "invalid"
    codes = error.get_codes()
    return codes if isinstance(codes, str) else error.default_code


def _message(error: exceptions.APIException) -> str:
    if isinstance(error, exceptions.ValidationError):
        return "Some fields are missing or wrong."
    return str(error.detail)
