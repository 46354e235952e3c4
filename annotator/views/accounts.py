"""Logging in, and the password that everybody chooses for themselves."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from django.contrib import messages
from django.contrib.auth import views as auth
from django.contrib.auth.forms import AuthenticationForm, PasswordChangeForm
from django.core.cache import cache
from django.http import HttpRequest, HttpResponse, HttpResponseBase, JsonResponse
from django.shortcuts import redirect
from django.urls import resolve, reverse_lazy
from django.utils.translation import gettext as _
from rest_framework.request import Request
from rest_framework.throttling import BaseThrottle

from annotator.actions.people import own_password_chosen

ATTEMPTS = 10
ATTEMPTS_WINDOW = 300  # seconds
OPEN_WITHOUT_OWN_PASSWORD = {"password_change", "logout", "login"}


class RequireOwnPassword:
    """A person with a one-time password sees only the page on which they choose their own."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponseBase]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponseBase:
        return self.get_response(request)

    def process_view(self, request: HttpRequest, *_view: Any) -> HttpResponseBase | None:
        if not (request.user.is_authenticated and request.user.must_change_password):
            return None
        if resolve(request.path_info).url_name in OPEN_WITHOUT_OWN_PASSWORD:
            return None
        if request.path_info.startswith("/api/"):
            error = {"code": "own_password_needed", "message": "Log in on the site and choose your own password first."}
            return JsonResponse({"error": error}, status=403)
        return redirect("password_change")


class LoginView(auth.LoginView):
    """Django's own, with a limit on wrong guesses for one name from one address."""

    template_name = "accounts/login.html"
    redirect_authenticated_user = True

    def post(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        if cache.get(self._key(), 0) < ATTEMPTS:
            return super().post(request, *args, **kwargs)
        form = self.get_form()
        form.full_clean()
        form.errors.clear()
        form.add_error(None, _("Too many attempts. Wait five minutes, then try again."))
        return self.render_to_response(self.get_context_data(form=form), status=429)

    def form_invalid(self, form: AuthenticationForm) -> HttpResponse:
        cache.add(self._key(), 0, ATTEMPTS_WINDOW)
        cache.incr(self._key())
        return super().form_invalid(form)

    def form_valid(self, form: AuthenticationForm) -> HttpResponse:
        cache.delete(self._key())
        return super().form_valid(form)

    def _key(self) -> str:
        name = self.request.POST.get("username", "")[:150].casefold()
        return f"login:{BaseThrottle().get_ident(Request(self.request))}:{name.encode().hex()}"


class PasswordChangeView(auth.PasswordChangeView):
    template_name = "accounts/password_change.html"
    success_url = reverse_lazy("home")

    def form_valid(self, form: PasswordChangeForm) -> HttpResponse:
        own_password_chosen(form.user)
        messages.success(self.request, _("Your password has been changed."))
        return super().form_valid(form)
